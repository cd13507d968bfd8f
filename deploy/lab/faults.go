package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"martlet/deploy/lab/internal/bed"
	"martlet/deploy/lab/internal/damage"
)

func (a *app) cut() *cobra.Command {
	var cable bool
	c := a.on(&cobra.Command{
		Use:   "cut NODE NETWORK",
		Short: "Cut a node from a network (mgmt, storage or repl)",
		Long: `Nothing gets through between the node and that network any more, either way. Neither side is told: the link stays
up and what is sent is lost, as when a switch in between fails. With --cable the link goes down, and the node sees
that.`,
		Args: arguments(2, 2),
	}, func(ctx context.Context, l *bed.Lab, args []string) (map[string]any, error) {
		return nil, l.Cut(ctx, args[0], args[1], cable)
	})
	c.Flags().BoolVar(&cable, "cable", false, "the link goes down, as with a cable that is pulled")
	return c
}

func (a *app) heal() *cobra.Command {
	return a.on(&cobra.Command{
		Use:   "heal NODE NETWORK",
		Short: "Undo what cut and slow have done to a node on a network",
		Args:  arguments(2, 2),
	}, func(ctx context.Context, l *bed.Lab, args []string) (map[string]any, error) {
		return nil, l.Heal(ctx, args[0], args[1])
	})
}

func (a *app) slow() *cobra.Command {
	var delay time.Duration
	c := a.on(&cobra.Command{
		Use:   "slow NODE NETWORK RATE",
		Short: "Slow a node on a network, to a rate such as 10mbit or 512kbit, or by a delay",
		Long: `Lets RATE bits a second through, each way: a number with bit, kbit, mbit or gbit behind it, or "none" for no limit. With
--delay each way takes so much longer, so that an answer takes twice that. What was set before is replaced; heal undoes it.`,
		Args: arguments(3, 3),
	}, func(ctx context.Context, l *bed.Lab, args []string) (map[string]any, error) {
		bits, err := parseRate(args[2])
		if err != nil {
			return nil, err
		}
		if delay < 0 || delay > maxDelay {
			return nil, usageError{fmt.Errorf("--delay %v: must be from 0 to %v", delay, maxDelay)}
		}
		if bits == 0 && delay == 0 {
			return nil, usageError{fmt.Errorf("neither a rate nor a delay: lab heal %s %s makes it fast again", args[0], args[1])}
		}
		self, err := program()
		if err != nil {
			return nil, err
		}
		return nil, l.Slow(ctx, args[0], args[1], bits, delay, self)
	})
	c.Flags().DurationVar(&delay, "delay", 0, "how much longer each way takes")
	return c
}

// maxDelay is longer than any network takes that is not down.
const maxDelay = time.Minute

// parseRate reads bits a second; 0 is no limit. Below 8 kbit/s not even a connection would come about, and
// beyond 100 Gbit/s there is nothing to limit.
func parseRate(text string) (bits int64, err error) {
	if text == "none" {
		return 0, nil
	}
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz")
	unit, known := map[string]int64{"bit": 1, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}[text[len(number):]]
	n, err := strconv.ParseInt(number, 10, 64)
	const least, most = 8_000, 100_000_000_000
	if err != nil || !known || n <= 0 || n > most/unit || n*unit < least {
		return 0, usageError{fmt.Errorf("rate %q: must be a whole number of bit, kbit, mbit or gbit a second, from 8kbit to 100gbit, such as 10mbit; or none", text)}
	}
	return n * unit, nil
}

// several is a command for any number of nodes.
func (a *app) several(use, short string, do func(l *bed.Lab, ctx context.Context, names ...string) error) *cobra.Command {
	return a.on(&cobra.Command{Use: use + " NODE...", Short: short, Args: arguments(1, -1)}, func(ctx context.Context, l *bed.Lab, args []string) (map[string]any, error) {
		return nil, do(l, ctx, args...)
	})
}

func (a *app) pause() *cobra.Command {
	return a.several("pause", "Stop nodes' processes where they are, as if they hung", (*bed.Lab).Pause)
}

func (a *app) resume() *cobra.Command {
	return a.several("resume", "Let paused processes go on", (*bed.Lab).Resume)
}

func (a *app) kill() *cobra.Command {
	return a.several("kill", "Kill nodes' processes", (*bed.Lab).Kill)
}

func (a *app) start() *cobra.Command {
	return a.several("start", "Start nodes' processes, with power if they have none, and wait until they answer", (*bed.Lab).Start)
}

func (a *app) power() *cobra.Command {
	var off bool
	c := a.several("power", "Cut the power of nodes, all at one instant, and start them again", func(l *bed.Lab, ctx context.Context, names ...string) error {
		return l.PowerCut(ctx, off, names...)
	})
	c.Long = `The nodes fall silent on all networks, their processes end as they are, and what no sync has put on their devices, of
data or of journals, is lost. Then the devices are mounted again, and the processes started. With --off they stay
without power until lab start.`
	c.Flags().BoolVar(&off, "off", false, "leave them without power")
	return c
}

func (a *app) fill() *cobra.Command {
	return a.on(&cobra.Command{
		Use:   "fill NODE DEVICE",
		Short: "Fill a device to its last block",
		Args:  arguments(2, 2),
	}, func(_ context.Context, l *bed.Lab, args []string) (map[string]any, error) {
		taken, err := l.Fill(args[0], args[1])
		return map[string]any{"bytes": taken}, err
	})
}

func (a *app) free() *cobra.Command {
	return a.on(&cobra.Command{
		Use:   "free NODE DEVICE",
		Short: "Give back what fill has taken of a device",
		Args:  arguments(2, 2),
	}, func(_ context.Context, l *bed.Lab, args []string) (map[string]any, error) {
		return nil, l.Free(args[0], args[1])
	})
}

func (a *app) fail() *cobra.Command {
	var vanish bool
	c := a.on(&cobra.Command{
		Use:   "fail NODE DEVICE",
		Short: "Break a device: whatever is done with it is an I/O error",
		Long: `Whatever is done with the device fails with EIO, and what no sync had put on it is lost. With --unmount it vanishes
instead: its folder is empty, and only who has files open on it still has them.`,
		Args: arguments(2, 2),
	}, func(_ context.Context, l *bed.Lab, args []string) (map[string]any, error) {
		return nil, l.Fail(args[0], args[1], vanish)
	})
	c.Flags().BoolVar(&vanish, "unmount", false, "unmount it instead")
	return c
}

func (a *app) mend() *cobra.Command {
	return a.on(&cobra.Command{
		Use:   "mend NODE DEVICE",
		Short: "Mend a device that fail broke, with what it had",
		Args:  arguments(2, 2),
	}, func(ctx context.Context, l *bed.Lab, args []string) (map[string]any, error) {
		return nil, l.Mend(ctx, args[0], args[1])
	})
}

func (a *app) flip() *cobra.Command {
	var bits int
	var seed uint64
	var areas []string
	c := a.on(&cobra.Command{
		Use:   "flip NODE DEVICE",
		Short: "Change bits of what is stored on a device",
		Long: `Changes bits by chance, each byte of the files of that device being as likely, and says which. The node's process stands still
for that moment.`,
		Args: arguments(2, 2),
	}, func(ctx context.Context, l *bed.Lab, args []string) (map[string]any, error) {
		if bits < 1 || bits > 1_000_000 {
			return nil, usageError{fmt.Errorf("--bits %d: must be from 1 to 1000000", bits)}
		}
		for _, area := range areas {
			if area == "" || strings.ContainsAny(area, "/.") {
				return nil, usageError{fmt.Errorf("--in %q: must be a folder of a device, such as blobs", area)}
			}
		}
		if seed == 0 {
			seed = rand.Uint64()
		}
		flips, err := l.Flip(ctx, args[0], args[1], areas, bits, seed)
		return map[string]any{"flips": flips, "seed": seed}, err
	})
	c.Flags().IntVar(&bits, "bits", 1, "how many")
	c.Flags().Uint64Var(&seed, "seed", 0, "makes the same choices again of the same files; 0 is by chance")
	c.Flags().StringSliceVar(&areas, "in", damage.Areas(), "the `FOLDERS` of the device in which")
	return c
}
