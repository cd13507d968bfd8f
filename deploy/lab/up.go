package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"martlet/deploy/lab/internal/bed"
	"martlet/internal/conf"
)

func (a *app) up() *cobra.Command {
	o := bed.Defaults()
	size := conf.Size(o.Size)
	var martlet string
	c := &cobra.Command{
		Use:   "up",
		Short: "Put the lab up, or what is missing of it",
		Long: `Makes the networks, nodes and devices of a lab, and starts everything. Of a lab that is there it makes and starts
what is missing, also after the machine was started anew. Faults of devices and networks stay; paused processes stay so.`,
		Args: arguments(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if martlet == "" {
				self, err := program()
				if err != nil {
					return err
				}
				martlet = filepath.Join(filepath.Dir(self), "martlet")
			}
			martlet, err := filepath.Abs(martlet)
			if err != nil {
				return err
			}
			o.Size = int64(size)
			say := a.say(c.OutOrStdout())
			l, err := bed.Up(c.Context(), a.dir, martlet, o, c.Flags().Changed, say)
			if err != nil {
				return err
			}
			say("clients use %s, from the node client: lab shell client", l.Options.Endpoint())
			if err := l.Close(); err != nil {
				return err
			}
			return a.tell(c.OutOrStdout(), map[string]any{"endpoint": l.Options.Endpoint()})
		},
	}
	c.Flags().IntVar(&o.Nodes, "nodes", o.Nodes, "storage nodes, each a zone of its own")
	c.Flags().IntVar(&o.Devices, "devices", o.Devices, "devices of each storage node")
	c.Flags().IntVar(&o.Proxies, "proxies", o.Proxies, "proxies behind the balancer")
	c.Flags().StringArrayVar(&o.Policies, "policy", nil, "a storage policy beside the default one: `NAME, NAME=replicas:N or NAME=K+M`, such as ec42=4+2; may be given again")
	c.Flags().TextVar(&size, "size", size, "`BYTES` of each device, such as 1GiB; it takes of the disk what is written")
	c.Flags().StringVar(&o.Name, "name", o.Name, "what the names of the network namespaces begin with")
	c.Flags().StringVar(&o.Network, "network", o.Network, "first two `NUMBERS` of all addresses; they are seen in the lab only")
	c.Flags().StringVar(&martlet, "martlet", "", "the program martlet; if empty the one beside this program")
	return c
}

// program is the path of this program.
func program() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(self)
}

func (a *app) down() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Take everything away: processes, networks, mounts and files, data included",
		Args:  arguments(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			say := a.say(c.OutOrStdout())
			l, err := bed.Open(c.Context(), a.dir, say)
			switch {
			case errors.Is(err, bed.ErrNone):
				say("there is no lab in %s", a.dir)
			case err != nil:
				return err
			default:
				if err := l.Down(context.WithoutCancel(c.Context())); err != nil { // half of it helps nobody
					return err
				}
			}
			return a.tell(c.OutOrStdout(), nil)
		},
	}
}

func (a *app) addNode() *cobra.Command {
	var wait time.Duration
	c := a.on(&cobra.Command{
		Use:   "add-node",
		Short: "Add a storage node, and put its devices into the rings",
		Long: `Adds one, starts it, adds its devices to every ring and rebalances them. No ring is rebalanced while data of the rebalance
before is on its way: then this says so, and is to be called again later, or waits with --wait. It goes on where it was
stopped.`,
		Args: arguments(0, 0),
	}, func(ctx context.Context, l *bed.Lab, _ []string) (map[string]any, error) {
		name, err := l.AddNode(ctx, wait)
		if err != nil && name != "" {
			err = fmt.Errorf("%w; when that is mended: lab add-node", err)
		}
		return map[string]any{"node": name}, err
	})
	c.Flags().DurationVar(&wait, "wait", 0, "for how long it tries to rebalance each ring")
	return c
}
