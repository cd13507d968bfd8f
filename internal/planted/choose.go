//go:build planted

package planted

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Variable is the environment variable that chooses.
const Variable = "MARTLET_PLANTED"

// wrong is what is wrong with the environment. What it names is in force before anything runs, in tests as well, so that
// those of a part can be seen to notice.
var wrong = Choose(os.Getenv(Variable))

// FromEnvironment returns an error that lists what there is where the environment names another bug; none is in force
// then.
func FromEnvironment() error { return wrong }

// Choose has just those bugs in force in this process that a list names, with commas between; none
// where it is empty. The error lists what there is where it names another; nothing is changed then.
// It must not be called while anything runs that a bug is in.
func Choose(list string) error {
	all := All()
	var chosen [len(switches)]bool
	for text := range strings.SplitSeq(list, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		i := slices.IndexFunc(all, func(b Bug) bool { return b.Name == text })
		if i < 0 {
			return fmt.Errorf("%s: there is no planted bug %q; there are:\n%s", Variable, text, List())
		}
		chosen[i] = true
	}
	for i, is := range chosen {
		*switches[i] = is
	}
	return nil
}

// Chosen returns those that are in force.
func Chosen() []Bug {
	var list []Bug
	for i, b := range All() {
		if *switches[i] {
			list = append(list, b)
		}
	}
	return list
}

// List is a line for each bug that there is.
func List() string {
	var b strings.Builder
	for _, one := range All() {
		fmt.Fprintf(&b, "  %-26s %s\n", one.Name, one.Breaks)
	}
	return b.String()
}
