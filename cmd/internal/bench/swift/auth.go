// Package swift is a benchmark's client of a Swift endpoint: it signs in, and sends
// requests at little cost.
//
// Requests go over internal/direct, the client with which proxies speak to storage
// nodes: on the caller's goroutine, with its connections kept. A generator that
// shares a machine with the servers takes processor time away from them, and net/http
// takes two to three times as much of it. Signing in is rare, and uses net/http.
//
// Stores that speak S3 can be measured by the same generator: see S3.
package swift

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Credentials are how to sign in. Either Token and Storage are given, or URL, User
// and Key.
type Credentials struct {
	Token, Storage string

	// URL is that of the v1 authentication, such as http://HOST:8080/auth/v1.0, or of Keystone
	// where Keystone is set, such as http://HOST:5000/v3.
	URL, User, Key string

	Keystone *Keystone
	S3       *S3
}

// Keystone is what a password of Keystone (v3) needs besides.
type Keystone struct {
	Project string
	Domain  string // of the user and of the project
	Region  string // of the object store in the catalog; any where it is ""
}

// Check says what is missing, or makes no sense.
func (c Credentials) Check() error {
	if c.Token != "" || c.Storage != "" {
		switch {
		case c.Token == "" || c.Storage == "":
			return errors.New("a token and the storage URL go together")
		case c.URL != "" || c.User != "" || c.Key != "" || c.Keystone != nil || c.S3 != nil:
			return errors.New("a token is instead of signing in")
		}
		_, err := base(c.Storage)
		return err
	}
	if c.URL == "" {
		return errors.New("where to sign in is missing, or a token and the storage URL")
	}
	if c.User == "" || c.Key == "" {
		return errors.New("a user and the user's key are needed to sign in")
	}
	if c.S3 != nil && (c.Keystone != nil || c.S3.Region == "") {
		return errors.New("S3 wants a region, and no Keystone")
	}
	if c.Keystone != nil && c.Keystone.Project == "" {
		return errors.New("a project is needed, of Keystone")
	}
	_, err := base(c.URL)
	return err
}

// base checks a URL.
func base(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q is no URL: %w", text, err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q is no URL such as http://HOST:PORT/PATH", text)
	}
	return u, nil
}

// signInWithin limits a sign-in, and maxCatalog what it is answered with.
const (
	signInWithin = 30 * time.Second
	maxCatalog   = 4 << 20
)

// signedIn is what a sign-in brings.
type signedIn struct {
	token, storage string
}

// signIn signs in.
func (c Credentials) signIn(ctx context.Context) (signedIn, error) {
	if c.Token != "" {
		return signedIn{c.Token, c.Storage}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, signInWithin)
	defer cancel()
	got, err := c.ask(ctx)
	if err != nil {
		return signedIn{}, fmt.Errorf("signing in at %s: %w", c.URL, err)
	}
	if _, err := base(got.storage); err != nil || got.token == "" {
		return signedIn{}, fmt.Errorf("signing in at %s: neither a token nor a storage URL came: %q", c.URL, got.storage)
	}
	return got, nil
}

func (c Credentials) ask(ctx context.Context) (signedIn, error) {
	if c.Keystone != nil {
		return c.askKeystone(ctx)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return signedIn{}, err
	}
	r.Header.Set("X-Auth-User", c.User)
	r.Header.Set("X-Auth-Key", c.Key)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return signedIn{}, err
	}
	if err := resp.Body.Close(); err != nil {
		return signedIn{}, err
	}
	if resp.StatusCode/100 != 2 {
		return signedIn{}, errors.New(resp.Status)
	}
	return signedIn{resp.Header.Get("X-Auth-Token"), resp.Header.Get("X-Storage-Url")}, nil
}

// askKeystone has a token of a project for a password.
func (c Credentials) askKeystone(ctx context.Context) (signedIn, error) {
	type object = map[string]any
	domain := object{"name": c.Keystone.Domain}
	question, err := json.Marshal(object{"auth": object{
		"identity": object{
			"methods":  []string{"password"},
			"password": object{"user": object{"name": c.User, "password": c.Key, "domain": domain}},
		},
		"scope": object{"project": object{"name": c.Keystone.Project, "domain": domain}},
	}})
	if err != nil {
		return signedIn{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.URL, "/")+"/auth/tokens", bytes.NewReader(question))
	if err != nil {
		return signedIn{}, err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return signedIn{}, err
	}
	defer func() { _ = resp.Body.Close() }() // all that is wanted of it was read
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxCatalog))
	if err != nil {
		return signedIn{}, err
	}
	if resp.StatusCode/100 != 2 {
		return signedIn{}, errors.New(resp.Status)
	}
	storage, err := storageOf(text, c.Keystone.Region)
	return signedIn{resp.Header.Get("X-Subject-Token"), storage}, err
}

// storageOf finds the public URL of the object store in the catalog of a token.
func storageOf(text []byte, region string) (string, error) {
	var answer struct {
		Token struct {
			Catalog []struct {
				Type      string `json:"type"`
				Endpoints []struct {
					Interface string `json:"interface"`
					Region    string `json:"region"`
					RegionID  string `json:"region_id"`
					URL       string `json:"url"`
				} `json:"endpoints"`
			} `json:"catalog"`
		} `json:"token"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return "", fmt.Errorf("the answer is no token of Keystone: %w", err)
	}
	for _, service := range answer.Token.Catalog {
		for _, e := range service.Endpoints {
			if service.Type == "object-store" && e.Interface == "public" && (region == "" || region == e.Region || region == e.RegionID) {
				return e.URL, nil
			}
		}
	}
	return "", fmt.Errorf("the catalog has no public object store in region %q", region)
}
