package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"martlet/cmd/internal/config"
)

func newConfigInit() *cobra.Command {
	var output, like string
	own := config.NewSample()
	c := &cobra.Command{
		Use:   "init proxy|storage",
		Short: "Write the configuration of a new process, with every key and what it is for",
		Long: `Write the configuration of a new process: every key that there is, with what it is for; those that need not
be set are commented out, with their defaults.

The first file of a cluster gets secrets of its own. Each other one takes from the first, with --like, what all of them
have to have alike: the cluster's name, what is hashed, its policies, and between proxies what signs tokens.`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			kind := args[0]
			if kind != config.KindProxy && kind != config.KindStorage {
				return usage(fmt.Errorf("%q is no kind of process: proxy or storage", kind))
			}
			if like != "" {
				if err := own.Like(like); err != nil {
					return err
				}
				if kind == config.KindProxy && len(own.Secrets) == 0 {
					return usage(fmt.Errorf("--like %s: a storage node does not know what signs tokens: name the file of a proxy", like))
				}
			}
			text, err := own.Text(kind)
			if err != nil {
				return err
			}
			if output == "" {
				_, err := c.OutOrStdout().Write(text)
				return err
			}
			if err := writeNew(output, text); err != nil {
				return err
			}
			return tellNew(c.OutOrStdout(), output)
		},
	}
	f := c.Flags()
	f.StringVarP(&output, "output", "o", "", "write to `FILE`, which must not be there, and not to the standard output")
	f.StringVar(&like, "like", "", "be of the same cluster as the process of `FILE`")
	f.StringVar(&own.Listen, "listen", "", "`host:port` for clients, of a proxy")
	f.StringVar(&own.Address, "address", "", "the `IP` on the storage network, of a storage node")
	f.StringVar(&own.ReplicationAddress, "replication-address", "", "the `IP` on the replication network, if it is another one")
	f.StringVar(&own.Root, "root", own.Root, "the `folder` that the devices are mounted in")
	f.StringSliceVar(&own.Devices, "devices", nil, "the `names` of the devices: d1,d2,d3")
	return c
}

// writeNew writes a file that only its owner may read, and that was not there.
func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: nothing was written", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// tellNew says what was written, and what is to be done with it before a process starts on it.
func tellNew(w io.Writer, path string) error {
	_, err := config.CheckFile(path)
	if err == nil {
		_, err = fmt.Fprintf(w, "%s: a good configuration\n", path)
		return err
	}
	_, err = fmt.Fprintf(w, "%s was written. Before a process can start on it:\n  %v\n", path, err)
	return err
}
