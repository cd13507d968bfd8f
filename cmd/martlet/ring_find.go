package main

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"martlet/ring"
	"martlet/ring/builder"
	"martlet/ring/notation"
)

// deviceFlags describe a device, or what devices are looked for by, in flags.
type ringDeviceFlags struct {
	prefix string // of the flags' names
	id     int
	d      ring.Device
}

// add adds the flags to c, those of a search with the id.
func (f *ringDeviceFlags) add(c *cobra.Command, what string) {
	flags := c.Flags()
	flags.IntVar(&f.d.Region, f.prefix+"region", 1, what+" `REGION`")
	flags.IntVar(&f.d.Zone, f.prefix+"zone", 0, what+" `ZONE`")
	flags.StringVar(&f.d.IP, f.prefix+"ip", "", what+" `IP` address or host name")
	flags.IntVar(&f.d.Port, f.prefix+"port", 0, what+" `PORT`")
	flags.StringVar(&f.d.ReplicationIP, f.prefix+"replication-ip", "", what+" `IP` address or host name on the replication network")
	flags.IntVar(&f.d.ReplicationPort, f.prefix+"replication-port", 0, what+" `PORT` on the replication network")
	flags.StringVar(&f.d.Name, f.prefix+"device", "", what+" `NAME`: the folder it is mounted on")
	flags.StringVar(&f.d.Meta, f.prefix+"meta", "", what+" `TEXT` for people")
}

func (f *ringDeviceFlags) addSearch(c *cobra.Command) {
	f.add(c, "look for this")
	c.Flags().IntVar(&f.id, "id", 0, "look for this `ID`")
	c.Flags().Float64Var(&f.d.Weight, "weight", 0, "look for this `WEIGHT`")
}

// given is what the flags say, nil where one was not given.
func (f *ringDeviceFlags) given(c *cobra.Command) (notation.Search, error) {
	var s notation.Search
	flag := func(name string) bool { return c.Flags().Changed(f.prefix + name) }
	pick(flag("region"), &f.d.Region, &s.Region)
	pick(flag("zone"), &f.d.Zone, &s.Zone)
	pick(flag("ip"), &f.d.IP, &s.IP)
	pick(flag("port"), &f.d.Port, &s.Port)
	pick(flag("replication-ip"), &f.d.ReplicationIP, &s.ReplicationIP)
	pick(flag("replication-port"), &f.d.ReplicationPort, &s.ReplicationPort)
	pick(flag("device"), &f.d.Name, &s.Name)
	pick(flag("meta"), &f.d.Meta, &s.Meta)
	if f.prefix == "" {
		pick(flag("weight"), &f.d.Weight, &s.Weight)
		pick(flag("id"), &f.id, &s.ID)
	}
	for name, host := range map[string]*string{"ip": s.IP, "replication-ip": s.ReplicationIP} {
		if host != nil {
			form, err := notation.Host(*host)
			if err != nil {
				return s, fmt.Errorf("--%s%s: %w", f.prefix, name, err)
			}
			*host = form
		}
	}
	return s, nil
}

func pick[T any](given bool, value *T, into **T) {
	if given {
		*into = value
	}
}

// writable refuses what could not be written in the notation and read back: Swift's takes
// what is behind the first _ for the text, and neither has control characters in it. And
// addresses that are not of one machine.
func writable(s notation.Search) error {
	for _, host := range []*string{s.IP, s.ReplicationIP} {
		if host == nil {
			continue
		}
		if a, err := netip.ParseAddr(*host); err == nil && (a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})) {
			return fmt.Errorf("the address %s is not one of a machine, that others could reach", a)
		}
	}
	name, meta := s.Name, s.Meta
	if name != nil {
		if strings.Contains(*name, "_") {
			return fmt.Errorf("the device name %q has a \"_\" in it, behind which the text about a device begins: it would be read as another name", *name)
		}
		if at := control(*name); at >= 0 {
			return fmt.Errorf("the device name %q has a control character, %q, at byte %d", *name, (*name)[at], at)
		}
	}
	if meta != nil {
		if at := control(*meta); at >= 0 {
			return fmt.Errorf("the text about the device, %q, has a control character, %q, at byte %d", *meta, (*meta)[at], at)
		}
	}
	return nil
}

// control is where a text has its first control character, or -1.
func control(text string) int {
	return strings.IndexFunc(text, func(c rune) bool { return c < 0x20 || c == 0x7f })
}

// finder is how verbs are told which devices of a builder are meant.
type finder struct {
	flags ringDeviceFlags
	yes   bool
}

func (f *finder) add(c *cobra.Command) {
	f.flags.addSearch(c)
	c.Flags().BoolVarP(&f.yes, "yes", "y", false, "all devices are meant, where several match")
}

// request is a search, and the argument that goes with it.
type request struct {
	name   string // of the search, for people
	search notation.Search
	value  string
}

// requests are the searches of a command line: in the arguments, each with a value if
// there are to be any, or in flags, with the value as the only argument.
func (f *finder) requests(c *cobra.Command, args []string, value string) ([]request, error) {
	flags, err := f.flags.given(c)
	if err != nil {
		return nil, err
	}
	each := 1
	if value != "" {
		each = 2
	}
	switch {
	case !flags.Empty() && len(args) == each-1:
		return []request{{"what the flags say", flags, strings.Join(args, "")}}, nil
	case !flags.Empty():
		return nil, fmt.Errorf("devices are looked for by flags or by arguments, not by both; see %s --help", c.CommandPath())
	case len(args) == 0 || len(args)%each != 0:
		return nil, fmt.Errorf("it takes a SEARCH %sfor each; see %s --help", strings.TrimLeft(value+" ", " "), c.CommandPath())
	}
	var all []request
	for i := 0; i < len(args); i += each {
		s, err := notation.ParseSearch(args[i])
		if err != nil {
			return nil, fmt.Errorf("search %w", err)
		}
		r := request{fmt.Sprintf("%q", args[i]), s, ""}
		if each == 2 {
			r.value = args[i+1]
		}
		all = append(all, r)
	}
	return all, nil
}

// devices finds what a search is for: one device, or, with --yes, several.
func (f *finder) devices(b *builder.Builder, r request) ([]ring.Device, error) {
	found := match(b.Devices(), r.search)
	if len(found) == 0 {
		for _, d := range match(b.Removed(), r.search) {
			return nil, fmt.Errorf("%s is removed already, and goes with the next rebalance", notation.FormatID(&d))
		}
		return nil, fmt.Errorf("no device matches %s", r.name)
	}
	if len(found) > 1 && !f.yes {
		lines := []string{fmt.Sprintf("%s matches %s; with --yes all of them are meant:", r.name, some(len(found), "device"))}
		for _, d := range found {
			lines = append(lines, "  "+notation.FormatID(&d))
		}
		return nil, errors.New(strings.Join(lines, "\n"))
	}
	return found, nil
}

func match(devices iter.Seq[ring.Device], s notation.Search) []ring.Device {
	var found []ring.Device
	for d := range devices {
		if s.Match(&d) {
			found = append(found, d)
		}
	}
	return found
}

// weight reads a weight; whether a device can have it is the builder's to say.
func weight(text string) (float64, error) {
	w, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return 0, fmt.Errorf("weight %q is not a number", text)
	case w < 0:
		return 0, fmt.Errorf("weight %s is negative", text)
	case math.IsNaN(w):
		return 0, fmt.Errorf("weight %s is not a number", text)
	case math.IsInf(w, 0):
		return 0, fmt.Errorf("weight %s is not a finite number", text)
	}
	return w, nil
}

// negative turns what is said of a number that looks like a flag, as -1 does. what is
// said in front of it.
func negative(c *cobra.Command, what string) {
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		words := strings.Fields(err.Error())
		if last := words[len(words)-1]; strings.HasPrefix(err.Error(), "unknown shorthand flag") && len(last) > 1 {
			if _, notNumber := strconv.ParseFloat(last, 64); notNumber == nil {
				return usage(fmt.Errorf("%s%s is negative", what, last))
			}
		}
		return usage(fmt.Errorf("%w; see %s --help", err, c.CommandPath()))
	})
}

// deviceInfo is a device in JSON.
type deviceInfo struct {
	ring.Device
	Notation string `json:"notation"` // as a search for just this one
	Removed  bool   `json:"removed,omitempty"`
}

func infoOf(d ring.Device) deviceInfo {
	own := d
	if own.ReplicationIP == "" {
		own.ReplicationIP = own.IP
	}
	if own.ReplicationPort == 0 {
		own.ReplicationPort = own.Port
	}
	return deviceInfo{Device: own, Notation: notation.FormatID(&d)}
}

// unique drops devices that were found before.
func unique(all []ring.Device) []ring.Device {
	var out []ring.Device
	for _, d := range all {
		if !slices.ContainsFunc(out, func(o ring.Device) bool { return o.ID == d.ID }) {
			out = append(out, d)
		}
	}
	return out
}
