package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"martlet/ring"
	"martlet/ring/builder"
)

// The exit statuses of `martlet ring`: 0 is done, these are the others.
const (
	exitWarning = 1 // nothing to do, or done with a warning; for diff: they differ
	exitError   = 2 // nothing was done
)

// said is what a verb has to say beside its answer: one line each, on the standard
// error. Warnings make the exit status 1.
type said struct {
	Notes    []string `json:"notes,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

func (s *said) words() *said { return s }

func (s *said) note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

func (s *said) warn(format string, args ...any) {
	s.Warnings = append(s.Warnings, fmt.Sprintf(format, args...))
}

// An answer is what a verb found out or did. As JSON it is an object.
type answer interface {
	text(p *page)
	words() *said
}

// verb is one `martlet ring` command. run writes nothing where it returns an error.
type verb struct {
	use, short, long string
	args             cobra.PositionalArgs
	flags            func(c *cobra.Command)
	run              func(c *cobra.Command, args []string) (answer, error)

	// files are the endings of the files that arguments name, and how many arguments
	// do; -1 is all.
	files  []string
	naming int
}

func newRing(cluster clusterCheck) *cobra.Command {
	c := &cobra.Command{
		Use:   "ring",
		Short: "Make and change rings: which devices hold what",
		Long: `Rings say which devices hold which partitions. Each has a builder file, which an operator
changes, and a ring file, which the processes read; rebalance writes the second from the first.

Devices to add are written [r<region>]z<zone>-<ip>:<port>[R<ip>:<port>]/<device>[_<meta>], the
address behind R being that on the replication network. Devices are looked for by
d<id>r<region>z<zone>-<ip>:<port>R<ip>:<port>/<device>_<meta>, every part of it optional.

A command that fails has changed nothing. Whatever it replaces of a builder file is kept in
"backups" beside it.

The exit status is 0 when it is done, 1 with a warning or where there was nothing to do, 2 for
an error.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddGroup(
		&cobra.Group{ID: "change", Title: "To change a builder:"},
		&cobra.Group{ID: "apply", Title: "To make rings of it:"},
		&cobra.Group{ID: "look", Title: "To look:"},
	)
	for group, verbs := range map[string][]verb{
		"change": append(deviceVerbs(), settingVerbs(cluster)...),
		"apply":  append([]verb{rebalanceVerb(cluster), pushVerb()}, fileVerbs()...),
		"look":   append([]verb{showVerb(), diffVerb(), runningVerb()}, lookVerbs()...),
	} {
		for _, v := range verbs {
			sub := v.command()
			sub.GroupID = group
			c.AddCommand(sub)
		}
	}
	return c
}

// builderFile completes the first argument to builder files.
var builderFile = []string{"builder"}

func (v *verb) command() *cobra.Command {
	var asJSON bool
	if v.files == nil {
		v.files, v.naming = builderFile, 1
	}
	c := &cobra.Command{
		Use:   v.use,
		Short: v.short,
		Long:  v.short + ".\n\n" + v.long,
		Args:  arguments(v.args),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if v.naming >= 0 && len(args) >= v.naming {
				return completeDevices(args), cobra.ShellCompDirectiveNoFileComp
			}
			return v.files, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(c *cobra.Command, args []string) error {
			a, err := v.run(c, args)
			if err != nil {
				return usage(err) // exit status 2, whatever it is
			}
			return tell(c, a, asJSON)
		},
	}
	if v.long == "" {
		c.Long = v.short + "."
	}
	if v.flags != nil {
		v.flags(c)
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// tell prints an answer, for people or for programs.
func tell(c *cobra.Command, a answer, asJSON bool) error {
	out := c.OutOrStdout()
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		if err := e.Encode(a); err != nil {
			return err
		}
	} else {
		p := newPage(out)
		a.text(p)
		if _, err := io.WriteString(out, p.String()); err != nil {
			return err
		}
	}
	w := a.words()
	for _, line := range append(w.Notes, w.Warnings...) {
		if _, err := fmt.Fprintln(c.ErrOrStderr(), "martlet:", line); err != nil {
			return err
		}
	}
	if f, ok := a.(interface{ failed() []string }); ok && len(f.failed()) > 0 {
		return usage(errors.New(strings.Join(f.failed(), "\n")))
	}
	if d, ok := a.(interface{ differs() bool }); ok && d.differs() || len(w.Warnings) > 0 {
		return statusError(exitWarning)
	}
	return nil
}

// load reads a builder file to look at it.
func load(path string) (*builder.Builder, error) {
	b, err := builder.Load(path)
	return b, explain(path, err)
}

// change has f change the builder at path, and saves it: all of it or, where f returns
// an error, nothing.
func change(path string, f func(b *builder.File) error) (err error) {
	b, err := builder.Open(path)
	if err != nil {
		return explain(path, err)
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if err := f(b); err != nil {
		return err
	}
	return b.Save()
}

// explain says what to do about a file that is no builder.
func explain(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: there is no such file; `martlet ring create` makes one, and `martlet ring import` makes one from a ring", path)
	case errors.Is(err, builder.ErrBusy):
		return fmt.Errorf("%w; nothing was changed", err)
	case errors.Is(err, builder.ErrDamaged):
		switch head := firstBytes(path); {
		case head == gzipMagic:
			return fmt.Errorf("%s: it is a ring file, not a builder; `martlet ring import` makes a builder of it", path)
		case strings.HasPrefix(head, "\x80"):
			return fmt.Errorf("%s: it is a builder file of Swift; `martlet ring import` makes a builder from its ring file", path)
		}
	}
	return err
}

// gzipMagic is what ring files begin with.
const gzipMagic = "\x1f\x8b"

// firstBytes are the first two of a file; fewer where it has not as many or can't be
// read.
func firstBytes(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // it is only read
	head := make([]byte, 2)
	n, _ := io.ReadFull(f, head) // fewer are no magic number
	return string(head[:n])
}

// loadRing reads a ring file; or the ring of a builder file, where it is one.
func loadRing(path string) (*ring.Ring, error) {
	if head := firstBytes(path); strings.HasPrefix(head, "{") || head != gzipMagic && strings.HasSuffix(path, ".builder") {
		b, err := load(path)
		if err != nil {
			return nil, err
		}
		r, err := b.Ring()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return r, nil
	}
	r, err := ring.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: there is no such file", path)
	}
	return r, err
}

// completeDevices offers the devices of the builder that the first argument names.
func completeDevices(args []string) []string {
	if len(args) == 0 {
		return nil
	}
	b, err := builder.Load(args[0])
	if err != nil {
		return nil
	}
	var all []string
	for d := range b.Devices() {
		all = append(all, fmt.Sprintf("d%d\t%s/%s", d.ID, d.Addr(), d.Name))
	}
	return all
}
