package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/node"
)

func newProxy() *cobra.Command {
	return newDaemon("proxy", "Run a proxy: what clients speak to", func(ctx context.Context, file string) error {
		c, err := config.LoadProxy(file)
		if err != nil {
			return err
		}
		return serve(ctx, c.Log, func(o node.Options) (daemon, error) { return node.OpenProxy(c, o) })
	})
}

func newStorage() *cobra.Command {
	return newDaemon("storage", "Run a storage node: account, container and object servers over its devices", func(ctx context.Context, file string) error {
		c, err := config.LoadStorage(file)
		if err != nil {
			return err
		}
		return serve(ctx, c.Log, func(o node.Options) (daemon, error) { return node.OpenStorage(c, o) }) //nolint:contextcheck // what waits in it has a limit of its own
	})
}

func newDaemon(name, short string, run func(ctx context.Context, file string) error) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   name + " --config FILE",
		Short: short,
		Args:  arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				return usage(errors.New("--config is missing; see " + c.CommandPath() + " --help"))
			}
			return run(c.Context(), file)
		},
	}
	c.Flags().StringVar(&file, "config", "", "the configuration `FILE`")
	return c
}

// daemon is what package node opens.
type daemon interface {
	Run(ctx context.Context) error
}

// serve opens the log and a registry, then the process itself, and runs it until
// ctx ends.
func serve(ctx context.Context, to config.Log, open func(node.Options) (daemon, error)) (err error) {
	log, logFile, err := node.OpenLog(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, logFile.Close()) }()
	warnPlanted(log)
	registry := newRegistry()
	d, err := open(node.Options{Log: log, Registry: registry, Gatherer: registry, Version: versionText()})
	if err != nil {
		log.LogAttrs(ctx, slog.LevelError, "not started", slog.Any("err", err))
		return err
	}
	err = d.Run(ctx)
	if err != nil {
		log.LogAttrs(ctx, slog.LevelError, "failed", slog.Any("err", err))
	}
	return err
}

// newRegistry returns a registry that knows the process itself already.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
