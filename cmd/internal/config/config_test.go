package config

import (
	"encoding"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/internal/policy"
)

const cluster = `
[cluster]
hash_path_suffix = "salt"
[rings]
folder = "rings"
`

const goodProxy = cluster + `
[proxy]
listen = "127.0.0.1:8080"
[auth]
secrets = ["0123456789abcdef"]
[[auth.users]]
account = "test"
user = "tester"
key = "testing"
groups = [".admin"]
`

const policies = `
[[cluster.policies]]
index = 0
name = "gold"
default = true
[[cluster.policies]]
index = 1
name = "bronze"
aliases = ["cold"]
`

const goodStorage = cluster + `
[storage]
address = "127.0.1.1"
root = "/srv/node"
devices = ["d1", "d2"]
[replication]
address = "127.0.2.1"
`

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	path := write(t, goodProxy+"[log]\nfile = \"/var/log/m.log\"\n")
	p, err := LoadProxy(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(filepath.Dir(path), "rings"); p.Rings.Folder != want {
		t.Errorf("a relative path is %q, want it in the file's folder: %q", p.Rings.Folder, want)
	}
	if p.Log.File != "/var/log/m.log" || p.Server.Listen != "127.0.0.1:8080" || len(p.Auth.Users) != 1 || p.Auth.Users[0].Name != "tester" {
		t.Errorf("read %+v", p)
	}
	if got := p.Server.ClientTimeout.D(); got != time.Minute {
		t.Errorf("client_timeout is %v by default, want 1m", got)
	}

	s, err := LoadStorage(write(t, goodStorage+"[object]\nport = 6300\n"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Object.Port != 6300 || !s.Object.Enabled || s.Container.Port != 6201 || s.Server.Root != "/srv/node" {
		t.Errorf("read %+v", s)
	}
}

// What a policy sets is its own, what it does not the proxy's.
func TestPolicies(t *testing.T) {
	own := strings.Replace(goodProxy, "[proxy]", "[proxy]\nsorting_method = \"affinity\"\nread_affinity = \"r1\"\nwrite_affinity = \"r1\"", 1)
	p, err := LoadProxy(write(t, own+policies+`
[proxy.policies.gold]
sorting_method = "shuffle"
write_affinity = ""
[proxy.policies.Cold]
read_affinity = "r2z1=1, r1=2"
request_node_count = "6"
concurrent_gets = false
`))
	if err != nil {
		t.Fatal(err)
	}
	all := p.Server.Routing
	gold, bronze := p.Server.Policies["gold"].Over(all), p.Server.Policies["Cold"].Over(all)
	if gold.SortingMethod != "shuffle" || !gold.WriteAffinity.Empty() || gold.ReadAffinity.String() != "r1" || !gold.ConcurrentGets {
		t.Errorf("gold: %+v", gold)
	}
	if bronze.SortingMethod != "affinity" || bronze.ReadAffinity.String() != "r2z1=1, r1=2" || bronze.WriteAffinity.String() != "r1" ||
		bronze.RequestNodeCount.Of(3) != 6 || bronze.ConcurrentGets {
		t.Errorf("bronze: %+v", bronze)
	}
}

func TestWrong(t *testing.T) {
	for name, tt := range map[string]struct {
		text, key string
	}{
		"empty proxy":             {"[proxy]\n", "cluster.hash_path_suffix"},
		"empty storage":           {"[storage]\n", "cluster.hash_path_suffix"},
		"unknown key":             {goodProxy + "[log]\nlevels = \"info\"\n", "log.levels"},
		"key of the other kind":   {goodStorage + "[auth]\nsecrets = []\n", "auth"},
		"empty cluster name":      {strings.Replace(goodProxy, "[cluster]", "[cluster]\nname = \"\"", 1), "cluster.name"},
		"rings folder":            {strings.Replace(goodProxy, `folder = "rings"`, "", 1), "rings.folder"},
		"rings interval":          {strings.Replace(goodProxy, "[rings]", "[rings]\ncheck_every = \"0s\"", 1), "rings.check_every"},
		"key file is missing":     {strings.Replace(goodStorage, "[cluster]", "[cluster]\nkey_file = \"none\"", 1), "cluster.key_file"},
		"key file is a folder":    {strings.Replace(goodProxy, "[cluster]", "[cluster]\nkey_file = \"/\"", 1), "cluster.key_file"},
		"policy index":            {goodProxy + "[[cluster.policies]]\nindex = -1\nname = \"a\"\n", "cluster.policies"},
		"shape of fragments":      {goodProxy + "[[cluster.policies]]\nindex = 0\nname = \"a\"\nec = \"4-2\"\n", "\"4-2\" is no shape: two numbers are"},
		"fragments out of bounds": {goodProxy + "[[cluster.policies]]\nindex = 0\nname = \"a\"\nec = \"30+2\"\n", "out of bounds"},
		"whole replicas":          {goodProxy + "[[cluster.policies]]\nindex = 0\nname = \"a\"\nwhole_up_to = \"1KiB\"\n", "erasure coding"},
		"whole too large":         {goodProxy + "[[cluster.policies]]\nindex = 0\nname = \"a\"\nec = \"4+2\"\nwhole_up_to = \"1MiB\"\n", "more than 65536"},
		"policy name":             {goodProxy + "[[cluster.policies]]\nindex = 0\nname = \"a b\"\n", "cluster.policies"},
		"listen without port":     {strings.Replace(goodProxy, "127.0.0.1:8080", "127.0.0.1", 1), "proxy.listen"},
		"listen port":             {strings.Replace(goodProxy, ":8080", ":http", 1), "proxy.listen"},
		"timeout 0":               {strings.Replace(goodProxy, "[proxy]", "[proxy]\nnode_timeout = \"0s\"", 1), "proxy.node_timeout"},
		"timeout negative":        {strings.Replace(goodProxy, "[proxy]", "[proxy]\nnode_timeout = \"-1s\"", 1), "proxy.node_timeout"},
		"timeout without unit":    {strings.Replace(goodProxy, "[proxy]", "[proxy]\nnode_timeout = 10", 1), "proxy.node_timeout"},
		"error limit":             {strings.Replace(goodProxy, "[proxy]", "[proxy]\nerror_limit = 0", 1), "proxy.error_limit"},
		"too many requests":       {strings.Replace(goodProxy, "[proxy]", "[proxy]\nmax_requests = 1000001", 1), "proxy.max_requests"},
		"requests below 0":        {strings.Replace(goodProxy, "[proxy]", "[proxy]\nmax_requests = -1", 1), "proxy.max_requests"},
		"little memory":           {strings.Replace(goodProxy, "[proxy]", "[proxy]\nmax_buffer_bytes = \"1MiB\"", 1), "proxy.max_buffer_bytes"},
		"high rate":               {strings.Replace(goodProxy, "[proxy]", "[proxy]\nclient_min_rate = \"2MiB\"", 1), "proxy.client_min_rate"},
		"sorting":                 {strings.Replace(goodProxy, "[proxy]", "[proxy]\nsorting_method = \"fast\"", 1), "proxy.sorting_method"},
		"affinity of nothing":     {strings.Replace(goodProxy, "[proxy]", "[proxy]\nsorting_method = \"affinity\"", 1), "proxy.read_affinity"},
		"affinity unused":         {strings.Replace(goodProxy, "[proxy]", "[proxy]\nread_affinity = \"r1=100\"", 1), "proxy.read_affinity"},
		"read affinity":           {strings.Replace(goodProxy, "[proxy]", "[proxy]\nread_affinity = \"z1=100\"", 1), "proxy.read_affinity"},
		"write affinity":          {strings.Replace(goodProxy, "[proxy]", "[proxy]\nwrite_affinity = \"r1, r1\"", 1), "proxy.write_affinity"},
		"another order":           {strings.Replace(goodProxy, "[proxy]", "[proxy]\nsorting_method = \"speed\"", 1), "proxy.sorting_method"},
		"hedge for too many":      {strings.Replace(goodProxy, "[proxy]", "[proxy]\nconcurrent_gets_percent = 101", 1), "proxy.concurrent_gets_percent"},
		"hedge at once":           {strings.Replace(goodProxy, "[proxy]", "[proxy]\nconcurrency_timeout = \"0s\"", 1), "proxy.concurrency_timeout"},
		"no expiry of times":      {strings.Replace(goodProxy, "[proxy]", "[proxy]\ntiming_expiry = \"0s\"", 1), "proxy.timing_expiry"},
		"write nodes":             {strings.Replace(goodProxy, "[proxy]", "[proxy]\nwrite_affinity_node_count = \"0\"", 1), "proxy.write_affinity_node_count"},
		"request nodes":           {strings.Replace(goodProxy, "[proxy]", "[proxy]\nrequest_node_count = \"2 * nodes\"", 1), "proxy.request_node_count"},
		"unknown policy":          {goodProxy + policies + "[proxy.policies.silver]\nsorting_method = \"timing\"\n", "proxy.policies\": there is no policy \"silver\""},
		"policy by two names":     {goodProxy + policies + "[proxy.policies.cold]\n[proxy.policies.BRONZE]\n", "proxy.policies\": \"BRONZE\" and \"cold\" are the same policy"},
		"policy without a table":  {goodProxy + "[proxy.policies.gold]\n", "proxy.policies\": there is no policy \"gold\""},
		"key of a policy":         {goodProxy + policies + "[proxy.policies.gold]\nsort = \"timing\"\n", "proxy.policies.gold.sort"},
		"key of the whole proxy":  {goodProxy + policies + "[proxy.policies.gold]\nnode_timeout = \"1s\"\n", "proxy.policies.gold.node_timeout"},
		"order of a policy":       {goodProxy + policies + "[proxy.policies.gold]\nsorting_method = \"fast\"\n", "proxy.policies.gold.sorting_method\": value \"fast\""},
		"affinity of a policy":    {goodProxy + policies + "[proxy.policies.gold]\nread_affinity = \"r1\"\n", "proxy.policies.gold.read_affinity\": value \"r1\""},
		"no affinity of one":      {goodProxy + policies + "[proxy.policies.gold]\nsorting_method = \"affinity\"\n", "proxy.policies.gold.read_affinity"},
		"hedges of a policy":      {goodProxy + policies + "[proxy.policies.gold]\nconcurrent_gets_percent = 0\n", "proxy.policies.gold.concurrent_gets_percent\": value 0"},
		"delay of a policy":       {goodProxy + policies + "[proxy.policies.gold]\nconcurrency_timeout = \"0s\"\n", "proxy.policies.gold.concurrency_timeout"},
		"delay without unit":      {goodProxy + policies + "[proxy.policies.gold]\ntiming_expiry = 10\n", "proxy.policies.gold.timing_expiry\": value 10: it has no unit"},
		"nodes of a policy":       {goodProxy + policies + "[proxy.policies.gold]\nrequest_node_count = \"0\"\n", "proxy.policies.gold.request_node_count"},
		"write to nowhere":        {goodProxy + policies + "[proxy.policies.gold]\nwrite_affinity = \"z1\"\n", "proxy.policies.gold.write_affinity"},
		"storage requests":        {strings.Replace(goodStorage, "[storage]", "[storage]\nmax_requests = 0", 1), "storage.max_requests"},
		"limit 0":                 {goodProxy + "[proxy.limits]\nmax_meta_count = 0\n", "proxy.limits"},
		"listing limit":           {goodProxy + "[proxy.limits]\ncontainer_listing_limit = 10001\n", "proxy.limits.container_listing_limit"},
		"crossdomain":             {goodProxy + "[proxy.crossdomain]\nenabled = true\ncross_domain_policy = [\"<a>\"]\n", "proxy.crossdomain\": key \"cross_domain_policy\": value [\"<a>\"]"},
		"name check":              {goodProxy + "[proxy.name_check]\nforbidden_regexp = \"(a\"\n", "proxy.name_check\": key \"forbidden_regexp\": value \"(a\""},
		"read-only, but off":      {goodProxy + "[proxy.read_only]\nread_only = true\n", "proxy.read_only\": key \"read_only\": value true"},
		"quotes, but off":         {goodProxy + "[proxy.etag_quoter]\nenable_by_default = true\n", "proxy.etag_quoter.enable_by_default\": value true"},
		"a sync realm":            {goodProxy + "[proxy.container_sync.realms.us.clusters]\na = \"ftp://x\"\n", "proxy.container_sync"},
		"sync realm of a node":    {goodStorage + "[container_sync.realms.us.clusters]\na = \"http://u@x/v1\"\n", "container_sync"},
		"sync interval":           {goodStorage + "[container_sync]\ninterval = \"0s\"\n", "container_sync.interval"},
		"sync rows":               {goodStorage + "[container_sync]\nrow_concurrency = 0\n", "container_sync.row_concurrency"},
		"sync proxy":              {goodStorage + "[container_sync]\nsync_proxy = [\"h:80\"]\n", "container_sync.sync_proxy"},
		"symlinks":                {goodProxy + "[proxy.symlink]\nsymloop_max = 0\n", "proxy.symlink"},
		"domain":                  {goodProxy + "[proxy.domain_remap]\nstorage_domain = [\"a:80\"]\n", "proxy.domain_remap\": key \"storage_domain\": value \"a:80\""},
		"no secrets":              {strings.Replace(goodProxy, `"0123456789abcdef"`, "", 1), "auth"},
		"short secret":            {strings.Replace(goodProxy, "0123456789abcdef", "short", 1), "auth"},
		"user twice":              {goodProxy + "[[auth.users]]\naccount = \"test\"\nuser = \"tester\"\nkey = \"k\"\n", "auth"},
		"user without key":        {goodProxy + "[[auth.users]]\naccount = \"test\"\nuser = \"other\"\n", "auth"},
		"admin is the proxy":      {goodProxy + "[admin]\nlisten = \"127.0.0.1:8080\"\n", "admin.listen"},
		"admin is within any":     {strings.Replace(goodProxy, "127.0.0.1:8080", ":6209", 1), "admin.listen"},
		"admin":                   {goodProxy + "[admin]\nlisten = \"6209\"\n", "admin.listen"},
		"log level":               {goodProxy + "[log]\nlevel = \"loud\"\n", "log.level"},
		"log format":              {goodProxy + "[log]\nformat = \"xml\"\n", "log.format"},
		"requests level":          {goodProxy + "[log]\nrequests = \"no\"\n", "log.requests"},
		"storage address":         {strings.Replace(goodStorage, `"127.0.1.1"`, `"node1"`, 1), "storage.address"},
		"any address":             {strings.Replace(goodStorage, `"127.0.1.1"`, `"::"`, 1), "storage.address"},
		"bind":                    {strings.Replace(goodStorage, "[storage]", "[storage]\nbind = \"node1\"", 1), "storage.bind"},
		"bind any":                {goodStorage + "bind = \"0.0.0.0\"\n", "replication.bind"},
		"bind clashes":            {goodStorage + "bind = \"127.0.1.1\"\nport = 6202\n", "replication.port"},
		"no replication address":  {strings.Replace(goodStorage, `"127.0.2.1"`, `""`, 1), "replication.address"},
		"no root":                 {strings.Replace(goodStorage, `"/srv/node"`, `""`, 1), "storage.root"},
		"no devices":              {strings.Replace(goodStorage, `["d1", "d2"]`, "[]", 1), "storage.devices"},
		"device twice":            {strings.Replace(goodStorage, `"d2"`, `"d1"`, 1), "storage.devices"},
		"device check":            {strings.Replace(goodStorage, "[storage]", "[storage]\ndevice_check_interval = \"0s\"", 1), "storage.device_check_interval"},
		"device name":             {strings.Replace(goodStorage, `"d2"`, `".."`, 1), "storage.devices"},
		"port":                    {goodStorage + "[object]\nport = 0\n", "object.port"},
		"ports clash":             {goodStorage + "[object]\nport = 6202\n", "account.port"},
		"admin port clashes":      {goodStorage + "[admin]\nlisten = \"127.0.1.1:6201\"\n", "admin.listen"},
		"update timeout":          {goodStorage + "[object]\ncontainer_update_timeout = \"0s\"\n", "object.container_update_timeout"},
		"replicator interval":     {goodStorage + "[replicator]\ninterval = \"0s\"\n", "replicator.interval"},
		"replicator timeout":      {goodStorage + "[replicator]\nnode_timeout = \"0s\"\n", "replicator.node_timeout"},
		"replicator concurrency":  {goodStorage + "[replicator]\nconcurrency = 0\n", "replicator.concurrency"},
		"too many partitions":     {goodStorage + "[replicator]\nconcurrency = 1025\n", "replicator.concurrency"},
		"incoming pushes":         {goodStorage + "[replicator]\nincoming = 0\n", "replicator.incoming"},
		"reclaim age":             {goodStorage + "[replicator]\nreclaim_age = \"-1h\"\n", "replicator.reclaim_age"},
		"replicator operations":   {goodStorage + "[replicator]\noperations_per_second = -1\n", "replicator.operations_per_second"},
		"replication peers":       {goodStorage + "peers = [\"127.0.0.1\"]\n", "replication.peers"},
		"interval":                {goodStorage + "[stats]\ninterval = \"0s\"\n", "stats.interval"},
		"nothing on": {
			goodStorage + "enabled = false\n[object]\nenabled = false\n[container]\nenabled = false\n[account]\nenabled = false\n", "object.enabled",
		},
		"both":    {goodProxy + "[storage]\n", ""},
		"neither": {cluster, ""},
		"syntax":  {"[proxy\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, tt.text)
			kind, err := CheckFile(path)
			if err == nil {
				t.Fatalf("taken for a good %s file:\n%s", kind, tt.text)
			}
			text := err.Error()
			if !strings.HasPrefix(text, path+":") || !strings.Contains(text, tt.key) || strings.Contains(text, "\n") {
				t.Errorf("error %q, want one line that begins with the file and names %q", text, tt.key)
			}
			for _, secret := range []string{"salt", "0123456789abcdef", `"short"`} {
				if strings.Contains(text, secret) {
					t.Errorf("error %q shows the secret %q", text, secret)
				}
			}
		})
	}
}

func TestCheckFile(t *testing.T) {
	for text, want := range map[string]string{goodProxy: KindProxy, goodStorage: KindStorage} {
		if kind, err := CheckFile(write(t, text)); err != nil || kind != want {
			t.Errorf("CheckFile of a %s file: %q, %v", want, kind, err)
		}
	}
	missing := filepath.Join(t.TempDir(), "none")
	if _, err := CheckFile(missing); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("CheckFile of no file: %v, want an error that names it", err)
	}
}

// The file with the cluster's keys is found from the folder of the configuration, and read:
// what is wrong in it is told without showing it.
func TestKeyFile(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		mode os.FileMode
		want string // in the error
	}{
		"good":         {strings.Repeat("secret", 6) + "\n", 0o600, ""},
		"short":        {"secret\n", 0o600, "line 1"},
		"empty":        {"", 0o600, "no key"},
		"for everyone": {strings.Repeat("secret", 6) + "\n", 0o644, "mode 0644"},
	} {
		path := write(t, strings.Replace(goodStorage, "[cluster]", "[cluster]\nkey_file = \"the.key\"", 1))
		file := filepath.Join(filepath.Dir(path), "the.key")
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, tt.mode); err != nil {
			t.Fatal(err)
		}
		_, err := CheckFile(path)
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v, want %q and the file's name", name, err, tt.want)
		}
	}
}

func TestClash(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "127.0.0.1:81", false},
		{"127.0.0.1:80", "127.0.0.2:80", false},
		{"127.0.0.1:80", ":80", true},
		{"0.0.0.0:80", "127.0.0.1:80", true},
		{"[::]:80", "127.0.0.1:80", true},
		{"127.0.0.1:0", "127.0.0.1:0", false}, // each gets a port of its own
		{"", "127.0.0.1:80", false},
	} {
		if got := clash(tt.a, tt.b); got != tt.want {
			t.Errorf("clash(%q, %q) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

// Every key is in the manual.
func TestDocumented(t *testing.T) {
	manual, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{Proxy{}, Storage{}} {
		for _, key := range keys(reflect.TypeOf(v), "") {
			full := "`" + key + "`"
			last := "`" + key[strings.LastIndexByte(key, '.'):] + "`" // the second of a row may leave out the table
			if !strings.Contains(string(manual), full) && !strings.Contains(string(manual), last) {
				t.Errorf("docs/operations.md does not tell of %s", full)
			}
		}
	}
}

// keys are the keys of a struct, but for those of tables in lists.
func keys(typ reflect.Type, prefix string) []string {
	var all []string
	for i := range typ.NumField() {
		f := typ.Field(i)
		switch key := f.Tag.Get("toml"); {
		case key == "-":
		case f.Anonymous:
			all = append(all, keys(f.Type, prefix)...)
		case f.Type.Kind() == reflect.Struct && !reflect.PointerTo(f.Type).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
			all = append(all, keys(f.Type, prefix+key+".")...)
		default:
			all = append(all, prefix+key)
		}
	}
	return all
}

func TestPoliciesOfErasureCoding(t *testing.T) {
	const policies = "[[cluster.policies]]\nindex = 0\nname = \"gold\"\ndefault = true\n" +
		"[[cluster.policies]]\nindex = 3\nname = \"ec42\"\nec = \"4+2\"\n" +
		"[[cluster.policies]]\nindex = 4\nname = \"ec84\"\nec = \"8+4\"\nwhole_up_to = \"0\"\n"
	c, err := LoadProxy(write(t, goodProxy+policies))
	if err != nil {
		t.Fatal(err)
	}
	set, err := c.Cluster.PolicySet()
	if err != nil {
		t.Fatal(err)
	}
	want := []policy.Policy{
		{Name: "gold", Default: true},
		{Index: 3, Name: "ec42", Data: 4, Parity: 2, WholeUpTo: 8 << 10},
		{Index: 4, Name: "ec84", Data: 8, Parity: 4},
	}
	if got := set.All(); !slices.EqualFunc(got, want, func(a, b policy.Policy) bool {
		return a.Index == b.Index && a.Name == b.Name && a.Default == b.Default && a.Data == b.Data && a.Parity == b.Parity && a.WholeUpTo == b.WholeUpTo
	}) {
		t.Errorf("policies %+v, want %+v", got, want)
	}
}
