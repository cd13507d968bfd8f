package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/cmd/internal/config"
	"martlet/internal/clock"
	"martlet/internal/httpapi"
	"martlet/internal/name"
	"martlet/proxy"
	"martlet/proxy/auth"
)

// Proxy is one proxy process.
type Proxy struct {
	process
	address string
}

// OpenProxy opens everything that a proxy needs, its listeners included. What it
// returns is to be run, or closed.
func OpenProxy(c *config.Proxy, o Options) (*Proxy, error) {
	p := &Proxy{process: process{log: o.Log, listener: takeOr(o.Inherited, o.Listen)}}
	if err := p.open(c, o); err != nil {
		return nil, errors.Join(fmt.Errorf("proxy: %w", err), p.close())
	}
	return p, nil
}

func (p *Proxy) open(c *config.Proxy, o Options) error {
	hasher, err := name.NewHasher(c.Cluster.HashPathPrefix, c.Cluster.HashPathSuffix)
	if err != nil {
		return err
	}
	policies, err := c.Cluster.PolicySet()
	if err != nil {
		return err
	}
	users, err := auth.New(c.Auth.Config, c.Auth.Secrets, time.Now)
	if err != nil {
		return err
	}
	rings, err := openRings(c.Rings.Folder, policies)
	if err != nil {
		return err
	}
	p.reload(rings, c.Rings.CheckEvery.D())
	server, err := proxy.New(c.Server.Config, proxy.Deps{
		Rings: rings.quorum(), Hasher: hasher,
		Policies: policies, Auth: users, Log: o.Log, Registry: o.Registry, Version: o.Version, Now: o.Now,
		Dial: o.Memory.Dialer(nil),
	})
	if err != nil {
		return err
	}
	p.atEnd(func() error { server.Close(); return nil })
	connections, err := httpapi.NewConnections(o.Registry, "proxy", c.Server.Connections(), o.Log)
	if err != nil {
		return fmt.Errorf("proxy metrics: %w", err)
	}
	certificate, err := p.certificate(c.Server.TLS, o.Registry)
	if err != nil {
		return err
	}
	handler, err := p.takingRings(c, o, rings, policies, server)
	if err != nil {
		return err
	}
	err = p.listen(&httpapi.Server{
		Name: "proxy", Handler: handler, Log: o.Log, Silence: c.Server.ClientTimeout.D(), Drain: c.Server.DrainTimeout.D(), Connections: connections,
		Certificate: certificate, LeastTLS: c.Server.TLS.Least(),
		NewID: func() string { return httpapi.NewTransID(time.Now(), "") },
	}, c.Server.Listen)
	if err != nil {
		return err
	}
	p.address = p.addressOf("proxy")
	self := newIdentity(config.KindProxy, o.Version, c.Alike(), nil)
	return p.admin(c.Admin, o.Gatherer, func(mux *http.ServeMux) {
		rings.tellRings(mux)
		tellStatus(mux, func(context.Context) *Status {
			st := self.status(clock.Now(), rings)
			st.Time = clock.Now()
			return st
		})
	})
}

// Address is where the proxy listens for clients.
func (p *Proxy) Address() string { return p.address }

// Listeners are the sockets that it listens on, by the names of its servers. They are asked for before it runs.
func (p *Proxy) Listeners() map[string]net.Listener { return p.listeners() }

// Run serves until ctx ends, and closes the proxy.
func (p *Proxy) Run(ctx context.Context) error { return p.run(ctx) }

// Close closes a proxy that was not run.
func (p *Proxy) Close() error { return p.close() }

// certificateEvery is how often the files of a certificate are looked at.
const certificateEvery = 10 * time.Second

// certificate reads the certificate that a proxy shows, and has it read again when it changes; nil is none.
func (p *Proxy) certificate(c config.TLS, reg prometheus.Registerer) (*httpapi.Certificate, error) {
	if c.CertFile == "" {
		return nil, nil //nolint:nilnil // no certificate is no mistake
	}
	cert, err := httpapi.LoadCertificate(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, err
	}
	p.log.LogAttrs(context.Background(), slog.LevelInfo, "certificate", slog.String("is", cert.String()))
	p.every("certificate", certificateEvery, func(ctx context.Context) error {
		changed, err := cert.Reload()
		if err != nil {
			return fmt.Errorf("the certificate in use stays: %w", err)
		}
		if changed {
			p.log.LogAttrs(ctx, slog.LevelInfo, "another certificate", slog.String("is", cert.String()))
		}
		return nil
	})
	return cert, reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "martlet_certificate_end_timestamp_seconds", Help: "When the certificate that clients are shown ends.",
	}, func() float64 { return float64(cert.NotAfter().Unix()) }))
}
