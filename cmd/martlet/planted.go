//go:build planted

package main

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"martlet/internal/planted"
)

// plant has the bugs in force that the environment names, in a build that has them.
func plant() error { return planted.FromEnvironment() }

// plantedText is what the version says of the build.
func plantedText() string {
	names := make([]string, 0, 1)
	for _, b := range planted.Chosen() {
		names = append(names, b.Name)
	}
	if len(names) == 0 {
		return " PLANTED: a build with bugs, none of them in force"
	}
	return " PLANTED: " + strings.Join(names, ", ") + " in force"
}

// warnPlanted says in the log what a process is not to be trusted with.
func warnPlanted(log *slog.Logger) {
	log.Error("THIS IS A BUILD WITH PLANTED BUGS: keep nothing in it that is to be found again")
	for _, b := range planted.Chosen() {
		log.Error("A PLANTED BUG IS IN FORCE", slog.String("bug", b.Name), slog.String("breaks", b.Breaks))
	}
}

// addPlanted adds what only such a build has, and says in its help that it is one.
func addPlanted(root *cobra.Command) {
	root.Short += " (a build with planted bugs, for tests of tests)"
	root.AddCommand(&cobra.Command{
		Use:   "planted",
		Short: "List the bugs that MARTLET_PLANTED can put in force, by what each of them breaks",
		Args:  arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := io.WriteString(c.OutOrStdout(), fmt.Sprintf("%s=NAME[,NAME...] puts in force:\n%s", planted.Variable, planted.List()))
			return err
		},
	})
}
