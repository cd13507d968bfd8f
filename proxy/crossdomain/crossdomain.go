// Package crossdomain answers /crossdomain.xml: which sites' Flash and similar
// programs in a browser may use this cluster. The document is Swift's.
package crossdomain

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"martlet/proxy/chain"
)

// Config is what an operator may set.
type Config struct {
	Enabled bool     `toml:"enabled"`             // off: there is no such document
	Policy  []string `toml:"cross_domain_policy"` // lines of XML, the inside of the document
}

// Defaults returns Swift's policy, which nobody is told of before it is enabled.
func Defaults() Config {
	return Config{Policy: []string{`<allow-access-from domain="*" secure="false" />`}}
}

// Validate checks that the lines make a document. An error names the key.
func (c Config) Validate() error {
	if err := wellFormed(c.document()); err != nil {
		return fmt.Errorf("key %q: value %q: it makes no XML document: %w", "cross_domain_policy", c.Policy, err)
	}
	return nil
}

// wellFormed reports what is wrong with a document that is to have one element at
// its root.
func wellFormed(text string) error {
	d := xml.NewDecoder(strings.NewReader(text))
	depth, roots := 0, 0
	for {
		token, err := d.Token()
		switch {
		case errors.Is(err, io.EOF) && roots == 1:
			return nil
		case errors.Is(err, io.EOF):
			return errors.New("a line ends the document")
		case err != nil:
			return err
		}
		switch token.(type) {
		case xml.StartElement:
			if depth == 0 {
				roots++
			}
			depth++
		case xml.EndElement:
			depth--
		}
	}
}

// document is the whole.
func (c Config) document() string {
	return "<?xml version=\"1.0\"?>\n" +
		"<!DOCTYPE cross-domain-policy SYSTEM \"http://www.adobe.com/xml/dtds/cross-domain-policy.dtd\" >\n" +
		"<cross-domain-policy>\n" + strings.Join(c.Policy, "\n") + "\n</cross-domain-policy>"
}

// Section is what /info says.
func (c Config) Section() map[string]any { return map[string]any{} }

// New answers a GET with the document, whoever asks. Any other method is for
// otherwise: the path is no account's.
func New(cfg Config, otherwise chain.Handler) chain.Handler {
	document := cfg.document()
	return chain.HandlerFunc(func(ctx context.Context, r *chain.Request) *chain.Response {
		if r.Method != http.MethodGet {
			return otherwise.Serve(ctx, r)
		}
		return chain.Plain(http.StatusOK, "application/xml; charset=UTF-8", document)
	})
}
