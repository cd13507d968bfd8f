package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/node"
	"martlet/internal/device"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/vfs"
	"martlet/object/engine"
)

// errNotWhole is of an inspection that has found damage: what it was is printed already.
var errNotWhole = errors.New("not everything is whole")

func newInspect() *cobra.Command {
	var file string
	var asJSON bool
	c := &cobra.Command{
		Use:   "inspect --config FILE",
		Short: "Show what is stored: on a node, on a device, for an object",
		Long: `inspect asks the storage node that runs with the configuration FILE, on the storage network, what the stores
of its devices are like: objects, bytes, and what of the log is dead. Its subcommands look into the folder of
a device themselves, also while a node has it in use.

The exit status is 0 where all is well, 1 where something is damaged or can't be looked at, and 2 for a
command line or configuration that makes no sense.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				return c.Help()
			}
			a, err := inspectNode(c.Context(), file)
			if err != nil {
				return err
			}
			return tellWhole(c, a, asJSON)
		},
	}
	c.Flags().StringVar(&file, "config", "", "the configuration `FILE` of the storage node")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.AddCommand(newInspectDevice(), newInspectObject())
	return c
}

func newInspectDevice() *cobra.Command {
	var rebuild, asJSON bool
	c := &cobra.Command{
		Use:   "device FOLDER",
		Short: "Say what is on a device: objects, bytes, the log and its segments, the index",
		Long: `device looks into the FOLDER of a device and changes nothing. A node may have it in use: then it says what
would be found after a crash at this moment.

--rebuild-index makes the index again, from the log alone, where it is damaged or missing. A node does that by
itself when it meets the damage; this is for doing it while the node is stopped, which it has to be.`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := inspectDevice(c, args[0], rebuild)
			if err != nil {
				return err
			}
			return tellWhole(c, a, asJSON)
		},
	}
	c.Flags().BoolVar(&rebuild, "rebuild-index", false, "make the index again from the log; nobody may have the device in use")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// objectFlags are the flags of inspect object.
type objectFlags struct {
	file, policy, hash string
	all                bool
}

func newInspectObject() *cobra.Command {
	var f objectFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "object FOLDER {ACCOUNT CONTAINER OBJECT --config FILE | --hash HEX} [--policy NAME]",
		Short: "Say what is stored of an object on a device: records, versions, checksums",
		Long: `object looks into the FOLDER of a device and changes nothing; a node may have it in use. It prints what the index
says of a name, and the records that are in force: where they are, what they say, and whether they are whole. Of
data with a file of its own it reads the beginning. Of an object under a policy of erasure coding it also lists the
fragments that the device has.

--all searches the whole log, which takes as long as reading it, for records that are not in force any more as
well, and reads all of the data.

--config is the configuration of a proxy or storage node: it has the hash prefix and suffix, and the policies.
martlet locate prints the hash of a name. The names may be one argument, with slashes.`,
		Args: arguments(func(_ *cobra.Command, args []string) error {
			switch n := len(args); {
			case n == 0:
				return errors.New("the FOLDER of a device is missing")
			case f.hash != "" && n > 1:
				return errors.New("either --hash or names say which object")
			case f.hash == "" && n != 2 && n != 4:
				return errors.New("ACCOUNT CONTAINER OBJECT or --hash is needed behind the FOLDER")
			}
			return nil
		}),
		RunE: func(c *cobra.Command, args []string) error {
			a := &objectAnswer{Searched: f.all}
			if err := f.find(a, args[1:]); err != nil {
				return usage(err)
			}
			if err := f.inspect(c, a, args[0]); err != nil {
				return err
			}
			return tellWhole(c, a, asJSON)
		},
	}
	c.Flags().StringVar(&f.file, "config", "", "the configuration `FILE` of a proxy or storage node")
	c.Flags().StringVar(&f.policy, "policy", "", "the `NAME` or index of the object's storage policy")
	c.Flags().StringVar(&f.hash, "hash", "", "the hash of the name in `HEX`, instead of the name")
	c.Flags().BoolVar(&f.all, "all", false, "search the whole log, and read all of the data")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// tellWhole prints an answer. Where it is one of damage the error says so.
func tellWhole(c *cobra.Command, a interface {
	answer
	whole() bool
}, asJSON bool,
) error {
	if err := tell(c, a, asJSON); err != nil || a.whole() {
		return err
	}
	return errNotWhole
}

// place is the device that was looked at.
type place struct {
	said
	Folder  string `json:"folder"`
	Device  string `json:"device"`
	Cluster string `json:"cluster"`
	ID      string `json:"id"`
	InUse   bool   `json:"in_use"` // this is what a crash now would leave

	// Problems are what was found damaged beside what is said elsewhere.
	Problems []string `json:"problems,omitempty"`

	fingerprint string
}

// enter opens the folder of a device and finds out whether anybody has it in use. Who
// only looks gives it back at once: a node that starts has to find it free.
func (a *place) enter(folder string) (*vfs.Root, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	a.Folder = folder
	root, err := vfs.OpenRoot(folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: there is no such folder", folder)
	case errors.Is(err, syscall.ENOTDIR):
		return nil, fmt.Errorf("%s: it is not a folder", folder)
	case err != nil:
		return nil, err
	}
	id, err := device.ReadIdentity(root, folder)
	if err == nil {
		a.Device, a.Cluster, a.ID, a.fingerprint = id.Device, id.Cluster, id.ID, id.Fingerprint
		if err = root.Lock(); errors.Is(err, syscall.EWOULDBLOCK) {
			a.InUse, err = true, nil
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: not a device: %w", folder, err), root.Close())
	}
	return root, nil
}

// look opens a view of a device.
func (a *place) look(folder string) (*engine.View, error) {
	root, err := a.enter(folder)
	if err != nil {
		return nil, err
	}
	if err := root.Close(); err != nil {
		return nil, err
	}
	return a.again()
}

// again opens a view of the device that was entered.
func (a *place) again() (*engine.View, error) {
	a.Problems = nil
	v, err := engine.Look(a.Folder, engine.Config{FS: vfs.OS, Log: slog.New(&listener{to: a})})
	return v, a.explain(err)
}

// explain says what would help.
func (a *place) explain(err error) error {
	if errors.Is(err, engine.ErrNoIndex) {
		return fmt.Errorf("%w: `martlet inspect device %s --rebuild-index` does that while the node is stopped", err, shell(a.Folder))
	}
	return err
}

// listener makes problems of what a store logs.
type listener struct {
	mu sync.Mutex
	to *place
}

// Enabled implements slog.Handler.
func (*listener) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

// Handle implements slog.Handler.
func (l *listener) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "device" {
			fmt.Fprintf(&b, ", %s %v", a.Key, a.Value)
		}
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to.Problems = append(l.to.Problems, b.String())
	return nil
}

// WithAttrs implements slog.Handler.
func (l *listener) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements slog.Handler.
func (l *listener) WithGroup(string) slog.Handler { return l }

func inspectDevice(c *cobra.Command, folder string, rebuild bool) (*deviceAnswer, error) {
	a := &deviceAnswer{}
	if rebuild {
		return a, a.rebuild(c, folder)
	}
	v, err := a.look(folder)
	if err != nil {
		return nil, err
	}
	a.Summary, err = v.Summary()
	return a, errors.Join(a.explain(err), v.Close())
}

// rebuild makes the index again.
func (a *deviceAnswer) rebuild(c *cobra.Command, folder string) (err error) {
	root, err := a.enter(folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if a.InUse {
		return fmt.Errorf("%s: it is in use: its index can be made again when the node is stopped", a.Folder)
	}
	p := newProgress(c.ErrOrStderr())
	defer p.end()
	p.say("the index is made again from the log")
	cfg := engine.Defaults()
	cfg.FS, cfg.Log = root, slog.New(&listener{to: &a.place})
	a.Rebuilt = true
	a.Summary, err = engine.RebuildIndex(c.Context(), a.Folder, cfg)
	return err
}

// find works out the hash and the policy.
func (f *objectFlags) find(a *objectAnswer, names []string) (err error) {
	var cluster config.Cluster
	if f.file != "" {
		if cluster, _, err = clusterOf(f.file); err != nil {
			return err
		}
	}
	var l located
	if err := (&locateFlags{file: f.file, policy: f.policy}).choose(&cluster, &l); err != nil {
		return err
	}
	a.Notes, a.at.Policy = l.Notes, policy.Index(*l.Index)
	if f.hash != "" {
		a.at.Hash, err = name.ParseHash(strings.ToLower(f.hash))
		return err
	}
	path, err := pathOf(names)
	switch {
	case err != nil:
		return err
	case path.Object == "":
		return errors.New("ACCOUNT CONTAINER OBJECT are needed: the object has no name")
	case f.file == "":
		return errors.New("names are hashed with a secret of the cluster: --config is needed, or --hash instead of the name")
	}
	h, err := name.NewHasher(cluster.HashPathPrefix, cluster.HashPathSuffix)
	a.name, a.at.Hash, a.wanted = path, h.Hash(path), h.Fingerprint()
	return err
}

// looksAgain is how often an object is looked at where somebody has the device in use,
// and may have removed what was not found.
const looksAgain = 3

func (f *objectFlags) inspect(c *cobra.Command, a *objectAnswer, folder string) error {
	v, err := a.look(folder)
	if err != nil {
		return err
	}
	p := newProgress(c.ErrOrStderr())
	defer p.end()
	p.say("the log is searched")
	how := engine.How{All: f.all}
	for try := 1; ; try++ {
		if a.wanted != "" && a.wanted != a.fingerprint {
			err = fmt.Errorf("%s: it was made with another hash prefix or suffix than %s has: the name has another hash there", a.Folder, f.file)
			return errors.Join(err, v.Close())
		}
		found, err := v.Inspect(c.Context(), a.at, how)
		if err == nil {
			a.fragments, err = fragmentsOf(c.Context(), v, a.at, how)
		}
		if err := errors.Join(a.explain(err), v.Close()); err != nil {
			return err
		}
		a.found = &found
		if !a.InUse || a.allFound() || try == looksAgain {
			return nil
		}
		if v, err = a.again(); err != nil {
			return err
		}
	}
}

// inspectNode asks a node that runs.
func inspectNode(ctx context.Context, file string) (*nodeAnswer, error) {
	cfg, err := config.LoadStorage(file)
	if err != nil {
		return nil, err
	}
	if !cfg.Object.Enabled {
		return nil, fmt.Errorf("%s: the object server of the node is switched off", file)
	}
	a := &nodeAnswer{Address: net.JoinHostPort(cfg.Server.Address, strconv.Itoa(cfg.Object.Port))}
	client := newAsker()
	defer client.CloseIdleConnections()
	return a, ask(ctx, client, a.Address, node.StorePath, &a.Devices)
}
