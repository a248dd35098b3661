package server

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

func checkOriginPattern(p string) error {
	if p == "*" {
		return nil
	}
	u, err := url.Parse(strings.Replace(p, "*.", "any.", 1))
	if err != nil || u.Scheme == "" || u.Host == "" || strings.TrimSuffix(u.Path, "/") != "" || u.RawQuery != "" {
		return fmt.Errorf("server: origin %q is not of the form https://shop.example[:port], https://*.example or *", p)
	}
	return nil
}

// originAllowed is the one check of every upgrade and every cross-origin request.
func (s *Server) originAllowed(r *http.Request) bool {
	o := r.Header.Get("Origin")
	if o == "" {
		return len(r.Header["Origin"]) == 0 // no browser
	}
	if len(r.Header["Origin"]) > 1 {
		return false
	}
	if u, err := url.Parse(o); err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host) {
		return true
	}
	for _, p := range s.cfg.Origins {
		p = strings.TrimSuffix(p, "/")
		if p == "*" || strings.EqualFold(p, o) {
			return true
		}
		if scheme, domain, ok := strings.Cut(p, "//*."); ok {
			if rest, ok := strings.CutPrefix(strings.ToLower(o), strings.ToLower(scheme)+"//"); ok {
				sub, ok := strings.CutSuffix(rest, "."+strings.ToLower(domain))
				if ok && sub != "" && !strings.ContainsAny(sub, "/@:?#") {
					return true
				}
			}
		}
	}
	return false
}

// cors answers for pages of allowed origins; it reports false when the request is done with.
func (s *Server) cors(w http.ResponseWriter, r *http.Request) bool {
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin != "" {
		if !s.originAllowed(r) {
			refuse(w, http.StatusForbidden, fmt.Sprintf("origin %.200q is not allowed", origin))
			return false
		}
		h.Set("Access-Control-Allow-Origin", origin)
		// Where every page may ask, none may ask in its visitor's name.
		if !slices.Contains(s.cfg.Origins, "*") {
			h.Set("Access-Control-Allow-Credentials", "true")
		}
	}
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", "GET, POST")
		if req := r.Header.Get("Access-Control-Request-Headers"); req != "" {
			h.Set("Access-Control-Allow-Headers", req)
			h.Add("Vary", "Access-Control-Request-Headers")
		}
		h.Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
		return false
	}
	return true
}
