package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"martlet/cmd/internal/config"
)

func newConfig() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Work with configuration files",
		Args:  arguments(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newConfigInit(), &cobra.Command{
		Use:   "check FILE",
		Short: "Say whether a configuration file is right, without starting anything",
		Args:  arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			kind, err := config.CheckFile(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: a good configuration of a %s process\n", args[0], kind)
			return err
		},
	})
	return c
}
