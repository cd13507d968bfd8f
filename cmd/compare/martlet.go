package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// The policies of stores that keep what is large in another way than in three replicas, beside those that write as few bytes:
// as `martlet dev` takes them, by the store. Accounts, containers and everything else is as in the store martlet.
var policies = map[string]string{
	martletTwo:  "two=replicas:2",
	martletEC42: "ec42=4+2",
}

const (
	martletTwo  = "martlet-two"
	martletEC42 = "martlet-ec42"
)

// policyOf is the name of the policy of a store's containers; "" is the default one.
func policyOf(store string) string {
	name, _, _ := strings.Cut(policies[store], "=")
	return name
}

// takes reports whether a load is sent to a store: those with a policy for what is large are sent that alone.
func takes(store string, l loadOf) bool { return policies[store] == "" || l.large() }

// nodes and devices are those of each cluster: also where a policy would have a node for each fragment, so that all have as many.
const nodes, devices = "4", "2"

// initMartlet makes the files of a cluster: a proxy, and four storage nodes of two devices.
func initMartlet(ctx context.Context, o *options, dir, network string, more ...string) (program, cluster, address string, err error) {
	if program, err = exec.LookPath(o.martlet); err == nil {
		program, err = filepath.Abs(program)
	}
	if err != nil {
		return "", "", "", fmt.Errorf("-martlet: %w", err)
	}
	cluster, address = filepath.Join(dir, "cluster"), network+".0.1:8080"
	args := append([]string{"dev", "init", "--dir", cluster, "--listen", address, "--network", network, "--nodes", nodes, "--devices", devices}, more...)
	made := exec.CommandContext(ctx, program, args...)
	if out, err := made.CombinedOutput(); err != nil {
		return "", "", "", fmt.Errorf("martlet dev init: %w\n%s", err, out)
	}
	return program, cluster, address, nil
}

// startMartlet has the cluster in one process, as make run has.
func startMartlet(ctx context.Context, o *options, dir, network string) (*store, error) {
	return startDev(ctx, o, dir, network)
}

// startMartletTwo and startMartletEC42 have one with a policy more.
func startMartletTwo(ctx context.Context, o *options, dir, network string) (*store, error) {
	return startDev(ctx, o, dir, network, "--policy", policies[martletTwo])
}

func startMartletEC42(ctx context.Context, o *options, dir, network string) (*store, error) {
	return startDev(ctx, o, dir, network, "--policy", policies[martletEC42])
}

func startDev(ctx context.Context, o *options, dir, network string, more ...string) (*store, error) {
	program, cluster, address, err := initMartlet(ctx, o, dir, network, more...)
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
	files, err := filepath.Glob(filepath.Join(cluster, "etc", "storage*.toml"))
	if err != nil {
		return nil, err
	}
	s := &store{credentials: testUser(address)}
	for _, file := range files {
		if err := s.begin(dir, strings.TrimSuffix(filepath.Base(file), ".toml"), nil, program, "storage", "--config", file); err != nil {
			return s, err
		}
	}
	return s, s.begin(dir, "proxy", nil, program, "proxy", "--config", filepath.Join(cluster, "etc", "proxy.toml"))
}
