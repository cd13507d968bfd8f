package config

import (
	"bytes"
	"crypto/rand"
	"embed"
	"fmt"
	"text/template"

	"martlet/internal/conf"
)

//go:embed samples/*.toml
var samples embed.FS

// Sample is what a new configuration says of its own; all else is commented out, with the default.
type Sample struct {
	Cluster        string   // its name; "" is the default
	Prefix, Suffix string   // of what is hashed
	KeyFile        string   // "" is none
	Policies       []Policy // none is the default

	Listen  string   // of a proxy; "" is the default
	Secrets []string // of a proxy

	Address, ReplicationAddress string // of a storage node; the second is the first where it is ""
	Root                        string
	Devices                     []string
}

// NewSample is the beginning of a new cluster, with secrets of its own.
func NewSample() Sample {
	return Sample{Suffix: rand.Text(), Secrets: []string{rand.Text() + rand.Text()}, Root: "/srv/martlet"}
}

// Like takes what all processes of a cluster are told alike from the file of another of them, of either kind.
// What signs tokens comes from a proxy's only: another proxy that is told nothing of it would refuse the tokens
// of the rest.
func (s *Sample) Like(path string) error {
	kind, err := CheckFile(path)
	if err != nil {
		return err
	}
	var c Cluster
	s.Secrets = nil
	// The name of the key file is taken as it is written: on another machine, or below another folder, it is beside the new file.
	if kind == KindProxy {
		p, err := LoadProxy(path)
		if err != nil {
			return err
		}
		c, s.Secrets = p.Cluster, p.Auth.Secrets
		written := DefaultProxy()
		if err := conf.Load(path, written); err != nil {
			return wrong(err)
		}
		c.KeyFile = written.Cluster.KeyFile
	} else {
		n, err := LoadStorage(path)
		if err != nil {
			return err
		}
		c = n.Cluster
		written := DefaultStorage()
		if err := conf.Load(path, written); err != nil {
			return wrong(err)
		}
		c.KeyFile = written.Cluster.KeyFile
	}
	s.Cluster, s.Prefix, s.Suffix, s.KeyFile, s.Policies = c.Name, c.HashPathPrefix, c.HashPathSuffix, c.KeyFile, c.Policies
	return nil
}

// Text is the file of a kind of process: every key that there is, with what it is for.
func (s *Sample) Text(kind string) ([]byte, error) {
	t, err := template.New(kind+".toml").Funcs(template.FuncMap{
		"text": conf.Quote, "list": conf.QuoteAll,
		"size": func(s *conf.Size) (string, error) {
			text, err := s.MarshalText()
			return conf.Quote(string(text)), err
		},
	}).ParseFS(samples, "samples/"+kind+".toml")
	if err != nil {
		return nil, fmt.Errorf("no configuration of a %q: %w", kind, err)
	}
	var b bytes.Buffer
	err = t.Execute(&b, s)
	return b.Bytes(), err
}
