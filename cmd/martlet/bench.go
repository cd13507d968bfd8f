package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"martlet/cmd/internal/bench"
	"martlet/cmd/internal/bench/procs"
	"martlet/cmd/internal/bench/report"
	"martlet/cmd/internal/bench/result"
	"martlet/cmd/internal/bench/size"
	"martlet/cmd/internal/bench/swift"
	"martlet/cmd/internal/bench/work"
)

// errRequestsFailed is of a benchmark of which some requests did not come to what they should.
var errRequestsFailed = errors.New("not every request was answered as it should be")

// errInterrupted is of one that was stopped before its end.
var errInterrupted = errors.New("interrupted: the figures are those until then")

func newBenchmark() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench {put | get | head | delete | list | mixed | floor | compare | cleanup}",
		Short: "Measure how fast a Swift endpoint is, and what it costs",
		Long: `Sends requests to any endpoint that speaks the Swift API, and says how many a second it answered, how long they
took, and what they cost. docs/bench.md says how to use it, and how to read what it prints.

All that it makes is in containers whose names begin with ` + bench.Prefix + `; it takes them away when it is done or
interrupted, and deletes nothing else.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	for _, k := range []work.Kind{work.Put, work.Get, work.Head, work.Delete, work.List} {
		c.AddCommand(newBenchOf(k.String(), work.Only(k)))
	}
	c.AddCommand(newBenchOf(bench.Mixed, work.Mix{}), newBenchFloor(), newBenchCompare(), newBenchCleanup())
	return c
}

// benchShort says what each command measures.
var benchShort = map[string]string{
	"put":       "Measure PUTs of objects",
	"get":       "Measure GETs of objects that are put before",
	"head":      "Measure HEADs of objects that are put before",
	"delete":    "Measure DELETEs of objects that are put before, each once",
	"list":      "Measure pages of listings, beginning anywhere",
	bench.Mixed: "Measure several kinds of operations at one time",
}

// signIn is the flags by which an account is reached.
type signIn struct {
	swift.Credentials
	keystone  swift.Keystone
	v3, s3    bool
	region    string
	endpoints []string
	timeout   time.Duration
}

func (s *signIn) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.URL, "auth", "", "where to sign in, `URL`, such as http://HOST:8080/auth/v1.0; ST_AUTH of the environment without")
	c.Flags().StringVar(&s.User, "user", "", "who signs in, such as `ACCOUNT:USER`; ST_USER without")
	c.Flags().StringVar(&s.Key, "key", "", "the user's key, or password; ST_KEY without")
	c.Flags().StringVar(&s.Token, "token", "", "a token, instead of signing in; with --storage-url")
	c.Flags().StringVar(&s.Storage, "storage-url", "", "the account's `URL`, such as http://HOST:8080/v1/AUTH_test")
	c.Flags().BoolVar(&s.v3, "keystone", false, "--auth is a Keystone, version 3, such as http://HOST:5000/v3")
	c.Flags().StringVar(&s.keystone.Project, "project", "", "the `NAME` of the project, of Keystone")
	c.Flags().StringVar(&s.keystone.Domain, "domain", "Default", "the `NAME` of the user's and the project's domain, of Keystone")
	c.Flags().BoolVar(&s.s3, "s3", false, "the server speaks S3: --auth is its endpoint, such as http://HOST:9000, --user and --key are the access key and the secret one")
	c.Flags().StringVar(&s.region, "region", "", "the `NAME` of the region of the object store, of Keystone; of S3, which has us-east-1 without")
	c.Flags().StringArrayVar(&s.endpoints, "endpoint", nil, "a host to send to, instead of that of the storage URL: `URL`, such as http://10.0.0.1:8080; may be given again, for one after the other")
	c.Flags().DurationVar(&s.timeout, "timeout", bench.Defaults().Timeout, "the longest silence of a server")
}

// complete takes from the environment what was not given.
func (s *signIn) complete() error {
	if s.Token == "" && s.Storage == "" {
		s.URL, s.User, s.Key = cmp.Or(s.URL, os.Getenv("ST_AUTH")), cmp.Or(s.User, os.Getenv("ST_USER")), cmp.Or(s.Key, os.Getenv("ST_KEY"))
	}
	switch {
	case s.v3 && s.s3:
		return errors.New("--keystone and --s3 are two ways of signing in")
	case s.v3:
		s.keystone.Region = s.region
		s.Keystone = &s.keystone
	case s.s3:
		s.S3 = &swift.S3{Region: cmp.Or(s.region, "us-east-1")}
	case s.region != "":
		return errors.New("--region is for --keystone and --s3")
	}
	if s.keystone.Project != "" && !s.v3 {
		return errors.New("--project is for --keystone")
	}
	if s.URL == "" && s.Token == "" && s.Storage == "" {
		return errors.New("--auth is missing, or --token and --storage-url")
	}
	return nil
}

// benchFlags are the flags of a benchmark.
type benchFlags struct {
	signIn
	bench.Options
	size, mix, servers, serversOf string
	json, html                    string
}

func newBenchOf(operation string, mix work.Mix) *cobra.Command {
	f := benchFlags{Options: bench.Defaults()}
	f.Operation, f.Mix = operation, mix
	switch operation {
	case "put":
		f.Objects = 0
	case "delete":
		f.Warmup, f.Duration = 0, 0
	}
	c := &cobra.Command{
		Use:   operation + " --auth URL --user USER --key KEY [--size SIZE] [--concurrency N] [--duration D] [--json FILE] [--html FILE]",
		Short: benchShort[operation],
		Long: benchShort[operation] + `.

Without --rate each client sends its next request when the last was answered. With it requests are due at that rate,
whatever the server does, and latencies count from when each was due.

The exit status is 0 where all requests were answered as they should be, 1 where some were not, where it could not be carried out or
was interrupted, and 2 for a wrong command line, with which nothing is sent.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	f.flags(c)
	return c
}

func (f *benchFlags) flags(c *cobra.Command) {
	f.signIn.flags(c)
	objects := "objects that are put before, and read"
	switch f.Operation {
	case "put":
		objects = "names that PUTs go round; each is a new one where it is 0"
	case "delete":
		objects = "objects that are put before each round, and deleted"
	case bench.Mixed:
		c.Flags().StringVar(&f.mix, "mix", "get=60,put=25,head=5,delete=10", "how often each operation is, `KIND=WEIGHT,...` of "+work.KindNames())
	}
	if f.Operation != "delete" {
		c.Flags().DurationVar(&f.Warmup, "warmup", f.Warmup, "how long requests are sent before the first round")
	}
	if f.Operation != "put" && f.Operation != "delete" {
		c.Flags().BoolVar(&f.Filled, "filled", false, "the objects are there, of a run with --keep and the same --name, --seed, --size, --objects and --containers")
	}
	if f.Operation == "list" || f.Operation == bench.Mixed {
		c.Flags().IntVar(&f.Limit, "limit", f.Limit, "names on a page of a listing")
	}
	c.Flags().StringVar(&f.size, "size", f.Sizes.String(), "the `SIZE` of objects: 4KiB; 1KiB-1MiB, log-uniform; 4KiB:70,1MiB:30, with weights")
	c.Flags().IntVar(&f.Concurrency, "concurrency", f.Concurrency, "clients: how many requests are under way at one time")
	c.Flags().Int64Var(&f.Objects, "objects", f.Objects, objects)
	c.Flags().IntVar(&f.Containers, "containers", f.Containers, "containers that the objects are in")
	c.Flags().StringVar(&f.Policy, "policy", "", "the `NAME` of the containers' storage policy")
	c.Flags().DurationVar(&f.Duration, "duration", f.Duration, "how long a round takes; 0 for as long as --ops, or what is to be deleted")
	c.Flags().Int64Var(&f.Operations, "ops", 0, "how many requests a round has; 0 for as many as there are in --duration")
	c.Flags().Float64Var(&f.Rate, "rate", 0, "requests a second that are due; 0 for as many as the clients can send")
	c.Flags().IntVar(&f.Rounds, "rounds", f.Rounds, "how often it is measured: figures are medians, and compare wants four")
	c.Flags().DurationVar(&f.Settle, "settle", 0, "how long nothing is sent before each round, so that servers end what putting objects has left them to do")
	c.Flags().BoolVar(&f.Verify, "verify", false, "compare each byte and ETag that comes with what was put")
	c.Flags().Uint64Var(&f.Seed, "seed", 1, "names, sizes, bytes and what is chosen follow from it")
	c.Flags().StringVar(&f.Name, "name", "", "the `NAME` of the run, which is a part of its containers' names; by chance without")
	c.Flags().BoolVar(&f.Keep, "keep", false, "leave what was made")
	c.Flags().StringVar(&f.servers, "servers", "", "measure what these processes use: `PID,...`")
	c.Flags().StringVar(&f.serversOf, "servers-of", "", "measure what the processes of this `COMMAND` use, such as martlet")
	c.Flags().StringVar(&f.json, "json", "", "write the result as JSON to this `FILE`; - is the standard output")
	c.Flags().StringVar(&f.html, "html", "", "write the result as a page to this `FILE`")
}

// complete checks the flags.
func (f *benchFlags) complete(c *cobra.Command) (err error) {
	if f.Sizes, err = size.ParseDist(f.size); err != nil {
		return fmt.Errorf("--size: %w", err)
	}
	if f.Operation == bench.Mixed {
		if f.Mix, err = work.ParseMix(f.mix); err != nil {
			return fmt.Errorf("--mix: %w", err)
		}
	}
	if f.Operations > 0 && !c.Flags().Changed("duration") {
		f.Duration = 0
	}
	if f.Name == "" {
		if c.Flags().Changed("name") || f.Filled {
			return errors.New("--name is missing")
		}
		f.Name = time.Now().UTC().Format("20060102-150405-") + strconv.FormatUint(rand.Uint64()>>40, 16)
	}
	if err := f.findServers(); err != nil {
		return err
	}
	for flag, name := range map[string]string{"--json": f.json, "--html": f.html} {
		if err := canWrite(name); err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
	}
	if err := f.signIn.complete(); err != nil {
		return err
	}
	f.Options.Credentials, f.Endpoints, f.Timeout, f.Version = f.signIn.Credentials, f.endpoints, f.timeout, versionText()
	return f.Check()
}

func (f *benchFlags) findServers() error {
	switch {
	case f.servers != "" && f.serversOf != "":
		return errors.New("--servers and --servers-of are two ways of saying one thing")
	case f.servers != "":
		pids, err := procs.ParseList(f.servers)
		if err != nil {
			return fmt.Errorf("--servers: %w", err)
		}
		f.Servers, f.ServersText = procs.Listed(pids), "processes "+f.servers
	case f.serversOf != "":
		f.Servers, f.ServersText = procs.Named(f.serversOf), f.serversOf
	default:
		return nil
	}
	if _, err := f.Servers(); err != nil {
		return fmt.Errorf("--servers: %w", err)
	}
	return nil
}

// canWrite looks whether a result can be written to a file, before it is measured.
func canWrite(name string) error {
	if name == "" || name == "-" {
		return nil
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a folder", name)
	}
	info, err := os.Stat(filepath.Dir(name))
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no folder", filepath.Dir(name))
	}
	return err
}

func (f *benchFlags) run(c *cobra.Command) error {
	if err := f.complete(c); err != nil {
		return usage(err)
	}
	out := c.OutOrStdout()
	text := out
	if f.json == "-" {
		text = c.ErrOrStderr()
	}
	running := newProgress(c.ErrOrStderr())
	defer running.end()
	f.Say = func(line string) { running.above(c.ErrOrStderr(), line) }
	if running != nil {
		running.say("signing in")
		f.Doing = running.update
	}
	r, err := bench.Run(c.Context(), f.Options)
	running.end()
	if r == nil {
		return err
	}
	p := newPage(text)
	p.benchResult(r)
	_, wrote := io.WriteString(text, p.String())
	err = errors.Join(err, wrote, f.write(out, r))
	failed, wrong := r.Failed()
	switch {
	case failed > 0:
		err = errors.Join(err, fmt.Errorf("%w: %s, in %s of them what came was not what was put", errRequestsFailed, some(int(failed), "failure"), number(int(wrong))))
	case r.Interrupted:
		err = errors.Join(err, errInterrupted)
	}
	return err
}

// write writes the files that were asked for.
func (f *benchFlags) write(out io.Writer, r *result.Report) error {
	var all []error
	if f.json == "-" {
		all = append(all, result.Write(out, r))
	} else if f.json != "" {
		all = append(all, toFile(f.json, func(w io.Writer) error { return result.Write(w, r) }))
	}
	if f.html != "" {
		all = append(all, toFile(f.html, func(w io.Writer) error { return report.Write(w, r) }))
	}
	return errors.Join(all...)
}

func toFile(name string, write func(io.Writer) error) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}
