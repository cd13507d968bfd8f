package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"martlet/deploy/lab/internal/bed"
	"martlet/deploy/lab/internal/delay"
	"martlet/deploy/lab/internal/links"
	"martlet/deploy/lab/internal/netns"
)

func (a *app) status() *cobra.Command {
	var quick bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Say what runs, which legs are cut or slow, how the devices are, and which data lacks copies",
		Args:  arguments(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := bed.Look(a.dir)
			if err != nil {
				return err
			}
			s, err := l.Status(c.Context(), a.json && !quick)
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(c.OutOrStdout(), s)
			}
			if err := printStatus(c.OutOrStdout(), s); err != nil || quick {
				return err
			}
			return l.PrintDurability(c.Context(), c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&quick, "quick", false, "without asking the cluster")
	return c
}

func printStatus(out io.Writer, s *bed.Status) error {
	state := "not whole"
	if s.Up {
		state = "up"
	}
	if _, err := fmt.Fprintf(out, "lab %s in %s: %s\nclients use %s\n\n", s.Name, s.Dir, state, s.Endpoint); err != nil {
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "node\tprocess\tnetworks\tdevices")
	for _, n := range s.Nodes {
		process := n.State
		if n.Pid != 0 {
			process = fmt.Sprintf("%s, %d", n.State, n.Pid)
		}
		var legs, devices []string
		for _, leg := range n.Legs {
			legs = append(legs, leg.Network+" "+leg.Address+legState(leg))
		}
		for _, d := range n.Devices {
			text := d.Name + " " + d.State
			if d.Total > 0 {
				text += fmt.Sprintf(" (%d MiB free of %d)", d.Free>>20, d.Total>>20)
			}
			devices = append(devices, text)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", n.Name, process, strings.Join(legs, ", "), strings.Join(devices, ", "))
	}
	return t.Flush()
}

// legState says what is not as it should be with a leg.
func legState(leg bed.LegStatus) string {
	switch leg.State {
	case "up":
		return ""
	case "slow":
		text := " (slow:"
		if leg.Bits > 0 {
			text += fmt.Sprintf(" %d kbit/s", leg.Bits/1000)
		}
		if leg.Delay > 0 {
			text += fmt.Sprintf(" %v later", time.Duration(leg.Delay)*time.Microsecond)
		}
		return text + ")"
	case bed.Silent, bed.Cable:
		return " (cut: " + leg.State + ")"
	}
	return " (" + leg.State + ")"
}

// enter becomes another program in the namespace of a node.
func (a *app) enter(name string, command []string) error {
	l, err := bed.Look(a.dir)
	if err != nil {
		return err
	}
	n, err := l.Node(name)
	if err != nil {
		return err
	}
	if is, err := netns.Is(n.Namespace.Name, n.Namespace.Inode); err != nil || !is {
		return errors.Join(err, fmt.Errorf("%s: its network namespace %s is not there: lab up", name, n.Namespace.Name))
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := netns.Enter(n.Namespace.Name); err != nil {
		return err
	}
	err = unix.Exec(path, command, append(os.Environ(), "LAB_NODE="+name, "LAB_ENDPOINT="+l.Options.Endpoint()))
	return fmt.Errorf("%s: %w", path, err)
}

func (a *app) shell() *cobra.Command {
	return &cobra.Command{
		Use:   "shell NODE",
		Short: "A shell on a node",
		Args:  arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			shell := os.Getenv("SHELL")
			if shell == "" {
				shell = "/bin/sh"
			}
			return a.enter(args[0], []string{shell})
		},
	}
}

func (a *app) exec() *cobra.Command {
	return &cobra.Command{
		Use:   "exec NODE -- COMMAND...",
		Short: "Run a command on a node; its exit status is the command's",
		Args:  arguments(2, -1),
		RunE:  func(_ *cobra.Command, args []string) error { return a.enter(args[0], args[1:]) },
	}
}

func (a *app) capture() *cobra.Command {
	return &cobra.Command{
		Use:   "capture NODE NETWORK [-- ARGUMENTS...]",
		Short: "Show what a node sends and receives on a network, with tcpdump and its arguments",
		Args:  arguments(2, -1),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := bed.Look(a.dir)
			if err != nil {
				return err
			}
			n, err := l.Node(args[0])
			if err != nil {
				return err
			}
			if _, err := n.Leg(args[1]); err != nil {
				return err
			}
			if _, err := exec.LookPath("tcpdump"); err != nil {
				return fmt.Errorf("%w: apt-get install tcpdump", err)
			}
			return a.enter(args[0], append([]string{"tcpdump", "-n", "-U", "-i", args[1]}, args[2:]...))
		},
	}
}

// forward is what slow starts where the kernel can't delay.
func (a *app) forward() *cobra.Command {
	var late time.Duration
	c := &cobra.Command{
		Use:    "forward PORT",
		Short:  "Forward between a port and its bridge, later",
		Args:   arguments(1, 1),
		Hidden: true,
		RunE: func(c *cobra.Command, args []string) error {
			return delay.Run(c.Context(), args[0], links.Near(args[0]), late, func() error {
				_, err := fmt.Fprintln(c.OutOrStdout(), bed.Forwards)
				return err
			})
		},
	}
	c.Flags().DurationVar(&late, "delay", 0, "how much later")
	return c
}
