package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"martlet/cmd/internal/config"
	"martlet/internal/device"
	"martlet/internal/name"
	"martlet/internal/vfs"
)

func newDevice() *cobra.Command {
	c := &cobra.Command{
		Use:   "device",
		Short: "Work with the devices of a storage node",
		Args:  arguments(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newDeviceInit(), newDeviceReadmit())
	return c
}

// deviceFlags are the flags of device init.
type deviceFlags struct {
	file       string
	devices    []string
	all, adopt bool
}

func newDeviceInit() *cobra.Command {
	var f deviceFlags
	c := &cobra.Command{
		Use:   "init --config FILE {--device NAME | --all}",
		Short: "Make mounted disks devices of this node",
		Long: "init writes the file that says to which cluster a disk belongs and which device it is. A storage node\n" +
			"uses no disk without it, so that nothing is written where a disk is not mounted. A disk that is that\n" +
			"device already stays as it is; one that is another is refused. The node may be running, and takes the\n" +
			"device in use by itself.",
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case f.file == "":
				return usage(errors.New("--config is missing; see " + c.CommandPath() + " --help"))
			case f.all == (len(f.devices) > 0):
				return usage(errors.New("either --device or --all is needed; see " + c.CommandPath() + " --help"))
			}
			return f.run(c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&f.file, "config", "", "the storage node's configuration `FILE`")
	c.Flags().StringArrayVar(&f.devices, "device", nil, "the `NAME` of a device; may be given several times")
	c.Flags().BoolVar(&f.all, "all", false, "every device of the node")
	c.Flags().BoolVar(&f.adopt, "adopt", false, "also of a folder that is not empty: what is in it is the device's")
	return c
}

func (f *deviceFlags) run(out io.Writer) error {
	cfg, err := config.LoadStorage(f.file)
	if err != nil {
		return err
	}
	hasher, err := name.NewHasher(cfg.Cluster.HashPathPrefix, cfg.Cluster.HashPathSuffix)
	if err != nil {
		return err
	}
	names := f.devices
	if f.all {
		names = cfg.Server.Devices
	}
	for _, n := range names {
		if !slices.Contains(cfg.Server.Devices, n) {
			return usage(fmt.Errorf("%s has no device %q", f.file, n))
		}
	}
	owner := device.Owner{Cluster: cfg.Cluster.Name, Fingerprint: hasher.Fingerprint()}
	var failed []error
	for _, n := range names {
		folder := filepath.Join(cfg.Server.Root, n)
		i, fresh, err := device.Init(folder, owner, n, f.adopt)
		if err != nil {
			failed = append(failed, fmt.Errorf("device %s: %s: %w", n, folder, err))
			continue
		}
		state := "was device " + n + " already"
		if fresh {
			state = "is device " + n + " now"
		}
		if _, err := fmt.Fprintf(out, "%s: %s, id %s%s\n", folder, state, i.ID, unmounted(folder)); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// unmounted is a warning where no file system of its own is mounted at a folder.
func unmounted(folder string) string {
	at, err := vfs.OS.Stat(folder)
	above, errAbove := vfs.OS.Stat(filepath.Dir(folder))
	if err == nil && errAbove == nil && at.Dev == above.Dev {
		return " (nothing is mounted there: it is on the file system of " + filepath.Dir(folder) + ")"
	}
	return ""
}
