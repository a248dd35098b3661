package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// MaxToken is the longest token accepted, in bytes.
const MaxToken = 8 << 10

// JWTConfig says which tokens to believe (RFC 7519). A token must have an exp; nbf is checked if it has one.
//
// Beyond the registered claims, of which "sub" is the User's ID, a token may have "info" (any JSON; Info), "channels"
// and "publish" (arrays of patterns; Channels and Publish). Unlike a Pusher signature, a token is not bound to one socket
// id: whoever has it may use it until it expires, so keep exp short and renew.
type JWTConfig struct {
	// Algorithm is HS256, RS256, ES256 or EdDSA, and the only one accepted, so that nobody can sign with a public
	// key as if it were a secret.
	Algorithm string
	// Secret is the key of HS256, at least 32 bytes.
	Secret []byte
	// PublicKey is the key of the others: *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey, or PEM in a []byte or
	// string.
	PublicKey any
	// Audience must be among the token's aud. Empty: tokens with an aud are for somebody else and refused.
	Audience string
	// Issuer must be the token's iss. Empty: any.
	Issuer string
	// Leeway allows for clocks that differ, at exp and nbf. Zero: none.
	Leeway time.Duration
}

// JWT makes the server believe tokens: at the connection, on an open one, and as the auth of a subscription. Mistakes
// are reported by Check.
func (a *Auth) JWT(c JWTConfig) {
	if a.tokens != nil {
		a.errs = append(a.errs, errors.New("JWT was called twice: one algorithm, one key"))
		return
	}
	key, err := c.key()
	if err != nil {
		a.errs = append(a.errs, fmt.Errorf("JWT: %w", err))
	}
	if c.Leeway < 0 || c.Leeway > time.Hour {
		a.errs = append(a.errs, fmt.Errorf("JWT: Leeway is %v; it must be between 0 and an hour", c.Leeway))
		key = nil
	}
	a.tokens = &tokens{config: c, key: key} // without a key it refuses every token
}

// key returns the key to verify with, of the type that the algorithm needs.
func (c JWTConfig) key() (any, error) {
	if c.Algorithm == jwt.SigningMethodHS256.Alg() {
		switch {
		case c.PublicKey != nil:
			return nil, errors.New("HS256 takes a Secret, not a PublicKey")
		case len(c.Secret) < 32:
			return nil, fmt.Errorf("the Secret of HS256 has %d bytes; it must have at least 32, made at random", len(c.Secret))
		case strings.Contains(string(c.Secret), "-----BEGIN "):
			return nil, errors.New("the Secret of HS256 is a PEM block: for a key pair use RS256, ES256 or EdDSA and PublicKey")
		}
		return c.Secret, nil
	}
	switch c.Algorithm {
	case "RS256", "ES256", "EdDSA":
	case "":
		return nil, errors.New("Algorithm is not set: HS256, RS256, ES256 or EdDSA")
	default:
		return nil, fmt.Errorf("Algorithm %q is none of HS256, RS256, ES256 and EdDSA", c.Algorithm)
	}
	if len(c.Secret) != 0 {
		return nil, fmt.Errorf("%s takes a PublicKey, not a Secret", c.Algorithm)
	}
	key, err := publicKey(c.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("PublicKey of %s: %w", c.Algorithm, err)
	}
	want := map[string]string{"RS256": "an RSA key", "ES256": "an ECDSA key on the curve P-256", "EdDSA": "an Ed25519 key"}[c.Algorithm]
	switch k := key.(type) {
	case *rsa.PublicKey:
		if c.Algorithm == "RS256" {
			if k.N == nil || k.N.BitLen() < 2048 {
				return nil, errors.New("PublicKey of RS256: the RSA key is shorter than 2048 bits")
			}
			return k, nil
		}
	case *ecdsa.PublicKey:
		if c.Algorithm == "ES256" && k.Curve == elliptic.P256() {
			return k, nil
		}
	case ed25519.PublicKey:
		if c.Algorithm == "EdDSA" && len(k) == ed25519.PublicKeySize {
			return k, nil
		}
	}
	return nil, fmt.Errorf("PublicKey of %s: it is a %T, and must be %s", c.Algorithm, key, want)
}

// publicKey reads PEM; anything else it returns as it is.
func publicKey(key any) (crypto.PublicKey, error) {
	var text []byte
	switch k := key.(type) {
	case nil:
		return nil, errors.New("it is not set")
	case []byte:
		text = k
	case string:
		text = []byte(k)
	default:
		return key, nil
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is not PEM (-----BEGIN PUBLIC KEY-----)")
	}
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	}
	if strings.Contains(block.Type, "PRIVATE KEY") {
		return nil, fmt.Errorf("it is a %s: the server needs the public half only", block.Type)
	}
	return nil, fmt.Errorf("PEM block %q is not a public key", block.Type)
}

// tokens verifies JWTs.
type tokens struct {
	config JWTConfig
	key    any // nil: the configuration is wrong, which Check has said
}

// claims are those of a token that this package reads. Sub hides that of RegisteredClaims: RFC 7519 wants a string,
// and PHP's libraries sign the number they are given.
type claims struct {
	jwt.RegisteredClaims
	Sub      json.RawMessage `json:"sub"`
	Info     json.RawMessage `json:"info"`
	Channels []string        `json:"channels"`
	Publish  []string        `json:"publish"`
}

func (t *tokens) verify(token string, now func() time.Time) (*User, error) {
	c := t.config
	switch {
	case t.key == nil:
		return nil, errors.New("JWT is configured wrongly: see Check")
	case len(token) > MaxToken:
		return nil, refusef("token of %d bytes is longer than %d", len(token), MaxToken)
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{c.Algorithm}), jwt.WithExpirationRequired(), jwt.WithStrictDecoding(),
		jwt.WithLeeway(c.Leeway), jwt.WithTimeFunc(now),
	}
	if c.Audience != "" {
		options = append(options, jwt.WithAudience(c.Audience))
	}
	if c.Issuer != "" {
		options = append(options, jwt.WithIssuer(c.Issuer))
	}
	var cl claims
	parsed, err := jwt.NewParser(options...).ParseWithClaims(token, &cl, func(*jwt.Token) (any, error) { return t.key, nil })
	if err != nil {
		return nil, t.refusal(parsed, &cl, err)
	}
	if _, critical := parsed.Header["crit"]; critical {
		return nil, Refuse("token has critical header extensions (crit), of which none is understood")
	}
	if c.Audience == "" && len(cl.Audience) != 0 {
		return nil, refusef("token is for audience %q, and this server has none configured", cl.Audience)
	}
	u := User{Info: cl.Info, Channels: cl.Channels, Publish: cl.Publish, ExpiresAt: cl.ExpiresAt.Add(c.Leeway)}
	if len(cl.Sub) != 0 {
		if u.ID, err = idText(cl.Sub); err != nil {
			return nil, refusef("token's sub %v", err)
		}
	}
	if u.ID == "" && len(u.Channels) == 0 && len(u.Publish) == 0 {
		return nil, Refuse("token has neither sub nor channels: it says nothing")
	}
	if err := u.check(); err != nil {
		return nil, refusef("token: %v", err)
	}
	return &u, nil
}

// refusal says why a token is not believed. The claims may be shown only where the signature was right.
func (t *tokens) refusal(parsed *jwt.Token, c *claims, err error) error {
	if parsed != nil && parsed.Header["alg"] != t.config.Algorithm && parsed.Header["alg"] != nil {
		return refusef("token's alg is %.20q, and this server takes only %s", fmt.Sprint(parsed.Header["alg"]), t.config.Algorithm)
	}
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return refusef("token is not a JWT: %v", err)
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return Refuse("token's signature is wrong")
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing) && c.ExpiresAt == nil:
		return Refuse("token has no exp: tokens must end")
	case errors.Is(err, jwt.ErrTokenExpired):
		return refusef("token expired at %s", c.ExpiresAt.UTC().Format(time.RFC3339))
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return refusef("token is not valid before %s", c.NotBefore.UTC().Format(time.RFC3339))
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return refusef("token's aud is %q, and must contain %q", []string(c.Audience), t.config.Audience)
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return refusef("token's iss is %q, and must be %q", c.Issuer, t.config.Issuer)
	}
	return refusef("token is not valid: %v", err)
}

// tokenGrant decides a subscription whose auth is a token.
func (a *Auth) tokenGrant(r Request) (Grant, error) {
	holder, err := a.tokens.verify(r.Auth, a.now)
	if err != nil {
		return Grant{}, err
	}
	if err := sameUser(r.User, holder.ID, "token"); err != nil {
		return Grant{}, err
	}
	if !holder.mayListen(r.Channel) {
		return Grant{}, refusef("token does not list channel %q in its channels", r.Channel)
	}
	return Grant{
		MemberID:   holder.ID,
		MemberInfo: holder.Info,
		Publish:    anyCovers(holder.Publish, r.Channel),
		ExpiresAt:  holder.ExpiresAt,
	}, nil
}

// Claims are what a token says. Zero fields are left out.
type Claims struct {
	Subject   string          // the User's ID
	Info      json.RawMessage // what other members see
	Channels  []string        // patterns the holder may listen to
	Publish   []string        // patterns the holder may publish to
	Audience  string
	Issuer    string
	NotBefore time.Time // to the second
	ExpiresAt time.Time // to the second; servers refuse a token without
}

// IssueHS256 returns a token that an [Auth] with JWTConfig{Algorithm: "HS256", Secret: secret} believes. Applications
// that sign in another way use a JWT library of their choice.
func IssueHS256(secret []byte, c Claims) (string, error) {
	if _, err := (JWTConfig{Algorithm: "HS256", Secret: secret}).key(); err != nil {
		return "", err
	}
	if c.ExpiresAt.IsZero() {
		return "", errors.New("token without ExpiresAt: servers refuse it")
	}
	m := jwt.MapClaims{"exp": c.ExpiresAt.Unix()}
	for name, value := range map[string]string{"sub": c.Subject, "aud": c.Audience, "iss": c.Issuer} {
		if value != "" {
			m[name] = value
		}
	}
	if !c.NotBefore.IsZero() {
		m["nbf"] = c.NotBefore.Unix()
	}
	if c.Info != nil {
		m["info"] = c.Info
	}
	if c.Channels != nil {
		m["channels"] = c.Channels
	}
	if c.Publish != nil {
		m["publish"] = c.Publish
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, m).SignedString(secret)
}
