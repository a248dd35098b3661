package socketid

import "testing"

func TestForms(t *testing.T) {
	for _, c := range []struct {
		id       string
		is, node bool
	}{
		{"123.456", true, false},
		{"0.0", true, false},
		{"1234567890.123456789", true, false}, // 20 bytes
		{"", false, false},
		{".", false, false},
		{"1.", false, false},
		{".1", false, false},
		{"1.2.3", false, false},
		{"1.x", false, false},
		{"undefined", false, false},
		{"lv_VI97HAXpY6yYWAAAC", false, true},
		{"12345678901234567890", false, true},
		{"-_-_-_-_-_-_-_-_-_-_", false, true},
		{"lv_VI97HAXpY6yYWAAA", false, false},
		{"lv_VI97HAXpY6yYWAAACC", false, false},
		{"lv_VI97HAXpY6yYWAAA=", false, false},
		{"lv_VI97HAXpY6yYWAAü", false, false}, // 20 bytes
	} {
		if Is(c.id) != c.is || IsNode(c.id) != c.node {
			t.Errorf("%q: Is is %t, IsNode is %t", c.id, Is(c.id), IsNode(c.id))
		}
	}
}
