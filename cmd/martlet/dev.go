package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"martlet/cmd/internal/cluster"
	"martlet/cmd/internal/config"
	"martlet/cmd/internal/node"
	"martlet/cmd/internal/processors"
	"martlet/internal/memnet"
)

// devFlags are the flags of dev and of dev init.
type devFlags struct {
	dir      string
	policies []string
	cluster.Options
}

func (f *devFlags) add(c *cobra.Command) {
	f.Options = cluster.Defaults()
	c.Flags().StringVar(&f.dir, "dir", "martlet-dev", "the `DIR` that everything is kept in")
	c.Flags().StringVar(&f.Listen, "listen", f.Listen, "where the proxy listens, `HOST:PORT`")
	c.Flags().IntVar(&f.Nodes, "nodes", f.Nodes, "storage nodes, each a zone of its own")
	c.Flags().IntVar(&f.Devices, "devices", f.Devices, "devices of each node")
	c.Flags().IntVar(&f.Proxies, "proxies", f.Proxies, "proxies; the others listen on NUMBERS.0.N of --network, at the port of --listen")
	c.Flags().IntVar(&f.Replicas, "replicas", f.Replicas, "replicas of everything")
	c.Flags().IntVar(&f.PartPower, "part-power", f.PartPower, "the rings have 2^`N` partitions")
	c.Flags().StringArrayVar(&f.policies, "policy", nil, "a storage policy beside the default one, replicated or erasure coded: `NAME, NAME=replicas:N or NAME=K+M`, such as two=replicas:2 or ec42=4+2; may be given again")
	c.Flags().BoolVar(&f.ClusterKey, "cluster-key", false, "storage nodes know each other on the replication network by a key, and rings are handed out with it")
	c.Flags().StringVar(&f.Network, "network", f.Network, "first two `NUMBERS` of the nodes' addresses, loopback or private: storage on NUMBERS.1.N, replication on NUMBERS.2.N")
}

// make opens or makes the cluster. Flags that were given must be those of an
// existing cluster, but for the ones that are free.
func (f *devFlags) make(c *cobra.Command, free ...string) (*cluster.Folder, error) {
	f.Policies = nil
	for _, text := range f.policies {
		p, err := cluster.ParsePolicy(text)
		if err != nil {
			return nil, usage(err)
		}
		f.Policies = append(f.Policies, p)
	}
	folder, err := cluster.Make(f.dir, f.Options, func(flag string) bool {
		return c.Flags().Changed(flag) && !slices.Contains(free, flag)
	})
	if errors.Is(err, cluster.ErrOptions) || errors.Is(err, cluster.ErrForeign) {
		return nil, usage(err)
	}
	return folder, err
}

func newDev() *cobra.Command {
	var f devFlags
	var sockets bool
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster in one process on loopback addresses",
		Long: "dev runs a proxy and storage nodes in one process. Each listens on a socket of its own; the connections\n" +
			"between them are in memory, unless --sockets says otherwise. What is stored is kept in the folder, and is\n" +
			"there again when dev is started on it again: leave the flags out then.",
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			folder, err := f.make(c, "listen")
			if err != nil {
				return err
			}
			listen := ""
			if c.Flags().Changed("listen") {
				listen = f.Listen // for this run; the folder keeps its own
			}
			var memory *memnet.Network
			if !sockets {
				memory = memnet.New()
			}
			return runDev(c.Context(), c.OutOrStdout(), folder, listen, memory)
		},
	}
	f.add(c)
	c.Flags().BoolVar(&sockets, "sockets", false, "the servers connect with each other over sockets, for this run, as they do as processes of their own")
	c.AddCommand(newDevInit(), newDevAddNode())
	return c
}

func newDevInit() *cobra.Command {
	var f devFlags
	c := &cobra.Command{
		Use:   "init",
		Short: "Write the cluster's files, and print the commands that start each process",
		Args:  arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			folder, err := f.make(c)
			if err != nil {
				return err
			}
			return printCommands(c.OutOrStdout(), folder)
		},
	}
	f.add(c)
	return c
}

func newDevAddNode() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "add-node",
		Short: "Make one storage node more, that no ring has yet, and print the command that starts it",
		Args:  arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			folder, err := cluster.Open(dir)
			if errors.Is(err, cluster.ErrForeign) {
				return usage(err)
			}
			if err != nil {
				return err
			}
			n, err := folder.Grow()
			if errors.Is(err, cluster.ErrOptions) {
				return usage(err)
			}
			if err != nil {
				return err
			}
			self, err := program()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s storage --config %s &\n", shell(self), shell(folder.StorageFile(n)))
			return err
		},
	}
	c.Flags().StringVar(&dir, "dir", "martlet-dev", "the `DIR` of the cluster")
	return c
}

// program is the path of this program.
func program() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if found, err := filepath.EvalSymlinks(self); err == nil {
		return found, nil
	}
	return self, nil
}

func runDev(ctx context.Context, out io.Writer, folder *cluster.Folder, listen string, memory *memnet.Network) (err error) {
	log, logFile, err := node.OpenLog(config.Log{Level: "info", Format: "text", File: folder.LogFile()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, logFile.Close()) }()
	warnPlanted(log)
	registry := newRegistry()
	o := node.Options{Log: log, Registry: registry, Gatherer: registry, Version: versionText(), Memory: memory}
	c, err := folder.Open(o, listen) //nolint:contextcheck // what waits in it has a limit of its own
	if err != nil {
		return err
	}
	processors.Set(log, folder.Options.Nodes*folder.Options.Devices)
	if err := banner(out, folder, c.Address()); err != nil {
		return errors.Join(err, c.Close())
	}
	return c.Run(ctx)
}

// banner says how to use the cluster. Its lines are meant to be pasted into a
// shell; the one that begins with "ready" is the last and for programs.
func banner(out io.Writer, folder *cluster.Folder, address string) error {
	o := folder.Options
	var b strings.Builder
	fmt.Fprintf(&b, "Martlet: %d storage nodes of %d devices, %d replicas, in one process.\n", o.Nodes, o.Devices, o.Replicas)
	for _, line := range policyLines(folder) {
		fmt.Fprintln(&b, line)
	}
	b.WriteString("\n")
	fmt.Fprintf(&b, "  sign in   http://%s/auth/v1.0\n", address)
	fmt.Fprintf(&b, "  storage   http://%s/v1/AUTH_test\n", address)
	fmt.Fprintf(&b, "  folder    %s\n", folder.Dir)
	fmt.Fprintf(&b, "  log       %s\n\n", folder.LogFile())
	table := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "  user\tkey\tgroups")
	for _, u := range cluster.Users() {
		fmt.Fprintf(table, "  %s:%s\t%s\t%s\n", u.Account, u.Name, u.Key, cmp.Or(strings.Join(u.Groups, " "), "-"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	b.WriteString("\n")
	for _, line := range firstLines(address) {
		fmt.Fprintf(&b, "%s\n", line)
	}
	fmt.Fprintf(&b, "\nready http://%s\n", address)
	_, err := io.WriteString(out, b.String())
	return err
}

// policyLines say which storage policies there are beside the default one, and what they
// have made of the cluster.
func policyLines(folder *cluster.Folder) []string {
	lines := slices.Clone(folder.Notes)
	for i, p := range folder.Options.Policies {
		kind := fmt.Sprintf("%d replicas", folder.Options.ReplicasOf(p))
		if p.Coded() {
			kind = "erasure coding " + p.Shape.String()
		}
		bears := "readable only while all nodes are up"
		if n := folder.Options.Bears(p); n > 0 {
			bears = fmt.Sprintf("readable while any %s down", map[bool]string{true: "node is", false: fmt.Sprintf("%d nodes are", n)}[n == 1])
		}
		lines = append(lines, fmt.Sprintf("Policy %s (index %d): %s; %s. Make a container with X-Storage-Policy: %s.", p.Name, i+1, kind, bears, p.Name))
	}
	return lines
}

// firstLines are what to paste first: each works on its own, on a new cluster.
func firstLines(address string) []string {
	url := "http://" + address
	token := fmt.Sprintf(`$(curl -so /dev/null -w '%%header{x-auth-token}' -H 'X-Auth-User: test:tester' -H 'X-Auth-Key: testing' %s/auth/v1.0)`, url)
	return []string{
		fmt.Sprintf(`curl -i -X PUT -H "X-Auth-Token: %s" %s/v1/AUTH_test/first`, token, url),
		fmt.Sprintf(`swift -A %s/auth/v1.0 -U test:tester -K testing upload first /usr/lib/os-release`, url),
		fmt.Sprintf(`rclone --swift-auth %s/auth/v1.0 --swift-user test:tester --swift-key testing copy /usr/lib/os-release :swift:first`, url),
	}
}

// printCommands prints what starts the cluster as a process each.
func printCommands(out io.Writer, folder *cluster.Folder) error {
	self, err := program()
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, line := range policyLines(folder) {
		fmt.Fprintf(&b, "# %s\n", line)
	}
	for n := 1; n <= folder.Options.Nodes; n++ {
		fmt.Fprintf(&b, "%s storage --config %s &\n", shell(self), shell(folder.StorageFile(n)))
	}
	for n := 1; n <= folder.Options.Proxies; n++ {
		fmt.Fprintf(&b, "%s proxy --config %s &\n", shell(self), shell(folder.ProxyFileOf(n)))
	}
	_, err = io.WriteString(out, b.String())
	return err
}

// shell quotes a path for a shell where it has to be.
func shell(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%", r)
	}
	if strings.IndexFunc(path, func(r rune) bool { return !plain(r) }) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
