package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// initMartlet makes the files of a cluster: a proxy, and four storage nodes of two devices.
func initMartlet(ctx context.Context, o *options, dir, network string) (program, cluster, address string, err error) {
	if program, err = exec.LookPath(o.martlet); err == nil {
		program, err = filepath.Abs(program)
	}
	if err != nil {
		return "", "", "", fmt.Errorf("-martlet: %w", err)
	}
	cluster, address = filepath.Join(dir, "cluster"), network+".0.1:8080"
	made := exec.CommandContext(ctx, program, "dev", "init", "--dir", cluster, "--listen", address, "--network", network)
	if out, err := made.CombinedOutput(); err != nil {
		return "", "", "", fmt.Errorf("martlet dev init: %w\n%s", err, out)
	}
	return program, cluster, address, nil
}

// startMartlet has the cluster in one process, as make run has.
func startMartlet(ctx context.Context, o *options, dir, network string) (*store, error) {
	program, cluster, address, err := initMartlet(ctx, o, dir, network)
	if err != nil {
		return nil, err
	}
	s := &store{credentials: testUser(address)}
	return s, s.begin(dir, "martlet", nil, program, "dev", "--dir", cluster)
}

// startMartletProcesses has it in a process for each node and one for the proxy.
func startMartletProcesses(ctx context.Context, o *options, dir, network string) (*store, error) {
	program, cluster, address, err := initMartlet(ctx, o, dir, network)
	if err != nil {
		return nil, err
	}
	nodes, err := filepath.Glob(filepath.Join(cluster, "etc", "storage*.toml"))
	if err != nil {
		return nil, err
	}
	s := &store{credentials: testUser(address)}
	for _, file := range nodes {
		if err := s.begin(dir, strings.TrimSuffix(filepath.Base(file), ".toml"), nil, program, "storage", "--config", file); err != nil {
			return s, err
		}
	}
	return s, s.begin(dir, "proxy", nil, program, "proxy", "--config", filepath.Join(cluster, "etc", "proxy.toml"))
}
