package config

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"martlet/internal/clusterkey"
	"martlet/internal/conf"
	"martlet/internal/ec"
	"martlet/internal/httpapi"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/object/engine/blob"
	"martlet/proxy"
	"martlet/proxy/auth"
	"martlet/replicator"
	"martlet/replicator/containersync"
)

// Check says what is wrong with the file: the first thing, in one line.
func (c *Proxy) Check() error {
	k := newChecker(c.Path)
	c.Cluster.check(k)
	c.Rings.check(k)
	k.address("proxy.listen", c.Server.Listen)
	c.Server.TLS.check(k)
	k.positive("proxy.client_timeout", c.Server.ClientTimeout)
	k.positive("proxy.node_timeout", c.Server.NodeTimeout)
	k.positive("proxy.recoverable_node_timeout", c.Server.RecoverableNodeTimeout)
	k.positive("proxy.conn_timeout", c.Server.ConnTimeout)
	k.positive("proxy.post_quorum_timeout", c.Server.PostQuorumTimeout)
	k.positive("proxy.drain_timeout", c.Server.DrainTimeout)
	k.positive("proxy.error_limit_span", c.Server.ErrorLimitSpan)
	k.least("proxy.error_limit", c.Server.ErrorLimit, 1)
	c.resilience(k)
	c.policies(k)
	k.wrap("proxy.limits", c.Server.Limits.Validate())
	k.page("proxy.limits.container_listing_limit", c.Server.Limits.ContainerListingLimit)
	k.page("proxy.limits.account_listing_limit", c.Server.Limits.AccountListingLimit)
	c.largeObjects(k)
	k.wrap("proxy.symlink", c.Server.Symlink.Validate())
	k.wrap("proxy.container_sync", c.Server.ContainerSync.Validate())
	k.wrap("proxy.tempurl", c.Server.TempURL.Validate())
	k.wrap("proxy.crossdomain", c.Server.CrossDomain.Validate())
	k.wrap("proxy.name_check", c.Server.NameCheck.Validate())
	if e := c.Server.EtagQuoter; e.Always && !e.Enabled {
		k.fail("proxy.etag_quoter.enable_by_default", true, "has no effect unless proxy.etag_quoter.enabled is true")
	}
	k.wrap("proxy.domain_remap", c.Server.DomainRemap.Validate(c.Server.Limits.ValidAPIVersions))
	k.wrap("proxy.formpost", c.Server.FormPost.Validate())
	k.wrap("proxy.list_endpoints", c.Server.ListEndpoints.Validate(append([]string{"info", "healthcheck", "crossdomain.xml", c.Auth.AuthPrefix}, c.Server.Limits.ValidAPIVersions...)...))
	k.wrap("proxy.cname_lookup", c.Server.CNAMELookup.Validate())
	k.wrap("proxy.ratelimit", c.Server.RateLimit.Validate())
	k.wrap("proxy.staticweb", c.Server.StaticWeb.Validate())
	k.wrap("proxy.read_only", c.Server.ReadOnly.Validate())
	c.Auth.check(k)
	c.Admin.check(k)
	c.Log.check(k)
	k.distinct([]place{{"proxy.listen", c.Server.Listen}, {"admin.listen", c.Admin.Listen}})
	return k.err
}

func (c TLS) check(k *checker) {
	if c.MinVersion != "1.2" && c.MinVersion != "1.3" {
		k.fail("proxy.tls.min_version", c.MinVersion, "must be 1.2 or 1.3")
	}
	switch {
	case c.CertFile == "" && c.KeyFile == "":
	case c.CertFile == "":
		k.fail("proxy.tls.cert_file", "", "must be set where proxy.tls.key_file is")
	case c.KeyFile == "":
		k.fail("proxy.tls.key_file", "", "must be set where proxy.tls.cert_file is")
	default:
		_, err := httpapi.LoadCertificate(c.CertFile, c.KeyFile)
		k.wrap("proxy.tls.cert_file", err)
	}
}

// Of admission control: more requests than that are more than a process has sockets for,
// and less memory than that is too little for one upload.
const (
	maxRequests    = 1_000_000
	minBufferBytes = 4 << 20
	maxMinRate     = 1 << 20
)

// resilience checks how much a proxy takes on, and the order in which it asks devices.
func (c *Proxy) resilience(k *checker) {
	s := &c.Server
	k.within("proxy.max_requests", s.MaxRequests, 0, maxRequests)
	if s.MaxBufferBytes != 0 && s.MaxBufferBytes < minBufferBytes {
		k.fail("proxy.max_buffer_bytes", int64(s.MaxBufferBytes), "must be 0 or at least %d", minBufferBytes)
	}
	k.within("proxy.max_connections", s.MaxConnections, 0, maxRequests)
	k.within("proxy.client_min_rate", int(s.ClientMinRate), 0, maxMinRate)
	routing(k, "proxy", s.Routing, proxy.PolicyRouting{})
}

// policies checks what policies have of their own in a proxy.
func (c *Proxy) policies(k *checker) {
	set, err := c.Cluster.PolicySet()
	if err != nil {
		return // it was said
	}
	k.wrap("proxy.policies", c.Server.CheckPolicies(set))
	for _, name := range slices.Sorted(maps.Keys(c.Server.Policies)) {
		own := c.Server.Policies[name]
		routing(k, "proxy.policies."+name, own.Over(c.Server.Routing), own)
	}
}

// routing checks whom a proxy asks. A read affinity that has no effect is only wrong
// where it was set: in own, or in the proxy's own table.
func routing(k *checker, table string, r proxy.Routing, own proxy.PolicyRouting) {
	if !slices.Contains([]string{quorum.Shuffle, quorum.ByAffinity, quorum.ByTiming}, r.SortingMethod) {
		k.fail(table+".sorting_method", r.SortingMethod, "must be %s, %s or %s", quorum.Shuffle, quorum.ByAffinity, quorum.ByTiming)
	}
	k.positive(table+".timing_expiry", r.TimingExpiry)
	k.positive(table+".concurrency_timeout", r.ConcurrencyTimeout)
	k.within(table+".concurrent_gets_percent", r.ConcurrentGetsPercent, 1, 100)
	set := table == "proxy" || own.ReadAffinity != nil
	if set && r.SortingMethod != quorum.ByAffinity && !r.ReadAffinity.Empty() {
		k.fail(table+".read_affinity", r.ReadAffinity.String(), "has no effect unless %s.sorting_method is %s", table, quorum.ByAffinity)
	}
	if r.SortingMethod == quorum.ByAffinity && r.ReadAffinity.Empty() {
		k.fail(table+".read_affinity", "", "must name regions or zones where %s.sorting_method is %s", table, quorum.ByAffinity)
	}
}

// largeObjects checks what bounds static and dynamic large objects.
func (c *Proxy) largeObjects(k *checker) {
	s, d := c.Server.SLO, c.Server.DLO
	k.least("proxy.slo.max_manifest_segments", s.MaxSegments, 1)
	k.least("proxy.slo.max_manifest_size", int(s.MaxSize), 1)
	k.least("proxy.slo.concurrency", s.Concurrency, 1)
	k.least("proxy.slo.delete_concurrency", s.DeleteConcurrency, 1)
	k.positive("proxy.slo.yield_frequency", s.Heartbeat)
	k.least("proxy.slo.rate_limit_after_segment", s.RateAfter, 0)
	k.least("proxy.slo.rate_limit_under_size", int(s.RateUnder), 0)
	k.least("proxy.slo.rate_limit_segments_per_sec", s.RatePerSecond, 0)
	k.positive("proxy.slo.max_get_time", s.MaxGetTime)
	k.least("proxy.dlo.rate_limit_after_segment", d.RateAfter, 0)
	k.least("proxy.dlo.rate_limit_segments_per_sec", d.RatePerSecond, 0)
	k.positive("proxy.dlo.max_get_time", d.MaxGetTime)
}

// Check says what is wrong with the file: the first thing, in one line.
func (c *Storage) Check() error {
	k := newChecker(c.Path)
	c.Cluster.check(k)
	c.Rings.check(k)
	c.Server.check(k)
	k.least("limits.max_meta_count", c.Limits.MaxMetaCount, 1)
	k.least("limits.max_meta_overall_size", c.Limits.MaxMetaOverallSize, 1)
	places := c.services(k)
	k.positive("object.container_update_timeout", c.Object.ContainerUpdateTimeout)
	c.Store.check(k)
	k.positive("databases.audit.interval", c.Databases.Audit.Interval)
	k.least("databases.audit.bytes_per_second", int(c.Databases.Audit.BytesPerSecond), 0)
	c.Replication.check(k)
	c.Replicator.check(k)
	k.positive("updater.interval", c.Updater.Interval)
	k.positive("expirer.interval", c.Expirer.Interval)
	k.least("expirer.objects_per_second", c.Expirer.ObjectsPerSecond, 0)
	if c.Expirer.Delay < 0 {
		k.fail("expirer.delay", c.Expirer.Delay.D(), "must not be less than 0")
	}
	k.positive("account_reaper.interval", c.Reaper.Interval)
	k.positive("account_reaper.reap_warn_after", c.Reaper.ReapWarnAfter)
	k.within("account_reaper.concurrency", c.Reaper.Concurrency, 1, 1024)
	k.least("account_reaper.objects_per_second", int(c.Reaper.ObjectsPerSecond), 0)
	if c.Reaper.DelayReaping < 0 {
		k.fail("account_reaper.delay_reaping", c.Reaper.DelayReaping.D(), "must not be less than 0")
	}
	c.Sync.check(k)
	c.Reconciler.check(k)
	k.positive("stats.interval", c.Stats.Interval)
	k.wrap("backend_ratelimit", c.BackendRateLimit.Check())
	c.Admin.check(k)
	c.Log.check(k)
	k.distinct(append(places, place{"admin.listen", c.Admin.Listen}))
	return k.err
}

func (c *Reconciler) check(k *checker) {
	k.positive("reconciler.interval", c.Interval)
	if c.Delay < 0 {
		k.fail("reconciler.delay", c.Delay.D(), "must not be less than 0")
	}
	k.within("reconciler.concurrency", c.Concurrency, 1, 1024)
	k.least("reconciler.objects_per_second", int(c.ObjectsPerSecond), 0)
	k.least("reconciler.bytes_per_second", int(c.BytesPerSecond), 0)
}

func (c *ContainerSync) check(k *checker) {
	k.positive("container_sync.interval", c.Interval)
	k.positive("container_sync.container_time", c.ContainerTime)
	k.least("container_sync.concurrency", c.Concurrency, 1)
	k.least("container_sync.row_concurrency", c.RowConcurrency, 1)
	k.positive("container_sync.conn_timeout", c.ConnTimeout)
	k.positive("container_sync.timeout", c.Timeout)
	k.least("container_sync.bytes_per_second", int(c.BytesPerSecond), 0)
	k.wrap("container_sync", c.Config.Validate())
	for _, p := range c.Proxies {
		k.wrap("container_sync.sync_proxy", containersync.CheckProxy(p))
	}
}

// services checks the servers that are switched on, and returns where they are to
// listen.
func (c *Storage) services(k *checker) []place {
	var places []place
	for _, s := range []struct {
		table, network, address, bind string
		Service
	}{
		{"object", "storage", c.Server.Address, c.Server.Bind, c.Object.Service},
		{"container", "storage", c.Server.Address, c.Server.Bind, c.Container},
		{"account", "storage", c.Server.Address, c.Server.Bind, c.Account},
		{"replication", "replication", c.Replication.Address, c.Replication.Bind, Service{c.Replication.Enabled, c.Replication.Port}},
	} {
		if !s.Enabled {
			continue
		}
		k.ip(s.network+".address", s.address)
		if s.bind != "" {
			k.ip(s.network+".bind", s.bind)
		}
		k.port(s.table+".port", s.Port)
		places = append(places, place{s.table + ".port", net.JoinHostPort(cmp.Or(s.bind, s.address), strconv.Itoa(s.Port))})
	}
	if len(places) == 0 {
		k.fail("object.enabled", false, "every server of this node is switched off")
	}
	return places
}

func (c *StorageServer) check(k *checker) {
	if c.Root == "" {
		k.fail("storage.root", c.Root, "must name the folder that the devices are in")
	}
	if len(c.Devices) == 0 {
		k.fail("storage.devices", c.Devices, "must name the node's devices")
	}
	seen := map[string]bool{}
	for _, d := range c.Devices {
		switch {
		case d == "" || d == "." || d == ".." || strings.ContainsAny(d, "/\x00"):
			k.fail("storage.devices", d, "is no plain folder name")
		case seen[d]:
			k.fail("storage.devices", d, "is named twice")
		}
		seen[d] = true
	}
	k.positive("storage.client_timeout", c.ClientTimeout)
	k.positive("storage.node_timeout", c.NodeTimeout)
	k.positive("storage.conn_timeout", c.ConnTimeout)
	k.positive("storage.drain_timeout", c.DrainTimeout)
	k.positive("storage.device_check_interval", c.DeviceCheckInterval)
	k.positive("storage.clock_skew", c.ClockSkew)
	k.least("storage.open_databases", c.OpenDatabases, 1)
	k.within("storage.max_requests", c.MaxRequests, 1, maxRequests)
}

// Of segments, in bytes: four records of the largest kind fit into the smallest.
const (
	minSegment = 4 << 20
	maxSegment = 16 << 30
)

func (c *Store) check(k *checker) {
	if c.Threshold < 0 || c.Threshold > blob.SmallMax {
		k.fail("store.threshold", int64(c.Threshold), "must be from 0 to %d", blob.SmallMax)
	}
	if c.SegmentSize < minSegment || c.SegmentSize > maxSegment {
		k.fail("store.segment_size", int64(c.SegmentSize), "must be from %d to %d", minSegment, maxSegment)
	}
	if c.QuarantineAge < 0 {
		k.fail("store.quarantine_age", c.QuarantineAge.D(), "must not be less than 0, which is for ever")
	}
	k.positive("store.compaction.interval", c.Compaction.Interval)
	k.least("store.compaction.bytes_per_second", int(c.Compaction.BytesPerSecond), 0)
	k.positive("store.scrub.interval", c.Scrub.Interval)
	k.least("store.scrub.bytes_per_second", int(c.Scrub.BytesPerSecond), 0)
}

func (c *Replication) check(k *checker) {
	for _, text := range c.Peers {
		if _, err := netip.ParsePrefix(text); err != nil {
			k.fail("replication.peers", text, "is no network, such as \"10.0.0.0/24\"")
		}
	}
}

func (c *Replicator) check(k *checker) {
	k.positive("replicator.interval", c.Interval)
	k.positive("replicator.node_timeout", c.NodeTimeout)
	k.positive("replicator.reclaim_age", c.ReclaimAge)
	k.within("replicator.concurrency", c.Concurrency, 1, replicator.MaxConcurrency)
	k.within("replicator.incoming", c.Incoming, 1, replicator.MaxConcurrency)
	k.least("replicator.bytes_per_second", int(c.BytesPerSecond), 0)
	k.least("replicator.operations_per_second", int(c.OperationsPerSecond), 0)
}

func (c *Cluster) check(k *checker) {
	if c.Name == "" {
		k.fail("cluster.name", c.Name, "must not be empty")
	}
	if _, err := name.NewHasher(c.HashPathPrefix, c.HashPathSuffix); err != nil {
		k.fail("cluster.hash_path_suffix", "", "it and cluster.hash_path_prefix are both empty: anyone could choose names that fall on one device")
	}
	_, err := c.PolicySet()
	k.wrap("cluster.policies", err)
	if c.KeyFile != "" {
		_, err := clusterkey.Load(c.KeyFile)
		k.wrap("cluster.key_file", err)
	}
}

// PolicySet returns the policies.
func (c *Cluster) PolicySet() (policy.Set, error) {
	list := make([]policy.Policy, 0, len(c.Policies))
	for _, p := range c.Policies {
		i, err := policy.ParseIndex(strconv.Itoa(p.Index))
		if err != nil {
			return policy.Set{}, err
		}
		of := policy.Policy{Index: i, Name: p.Name, Aliases: p.Aliases, Default: p.Default, Deprecated: p.Deprecated}
		if err := p.code(&of); err != nil {
			return policy.Set{}, fmt.Errorf("policy %q: %w", p.Name, err)
		}
		list = append(list, of)
	}
	return policy.NewSet(list)
}

// code fills in what there is to say of erasure coding.
func (p *Policy) code(of *policy.Policy) error {
	if p.EC == "" {
		if p.WholeUpTo != nil {
			return errors.New("whole_up_to is for policies of erasure coding")
		}
		return nil
	}
	shape, err := ec.ParseShape(p.EC)
	if err != nil {
		return fmt.Errorf("ec: %w", err)
	}
	of.Data, of.Parity, of.WholeUpTo = shape.Data, shape.Parity, defaultWholeUpTo
	if p.WholeUpTo != nil {
		of.WholeUpTo = int64(*p.WholeUpTo)
	}
	if of.WholeUpTo > maxWholeUpTo {
		return fmt.Errorf("whole_up_to is %d bytes, more than %d", of.WholeUpTo, maxWholeUpTo)
	}
	return nil
}

func (c *Rings) check(k *checker) {
	if c.Folder == "" {
		k.fail("rings.folder", c.Folder, "must name the folder that the ring files are in")
	}
	k.positive("rings.check_every", c.CheckEvery)
}

func (c *Auth) check(k *checker) {
	_, err := auth.New(c.Config, c.Secrets, time.Now)
	k.wrap("auth", err)
}

func (c *Admin) check(k *checker) {
	if c.Listen != "" {
		k.address("admin.listen", c.Listen)
	}
}

func (c *Log) check(k *checker) {
	if _, err := ParseLevel(c.Level); err != nil {
		k.fail("log.level", c.Level, "must be one of debug, info, warn and error")
	}
	if _, err := ParseLevel(c.Requests); err != nil {
		k.fail("log.requests", c.Requests, "must be one of debug, info, warn and error")
	}
	if c.Format != "text" && c.Format != "json" {
		k.fail("log.format", c.Format, "must be text or json")
	}
}

// ParseLevel reads debug, info, warn or error.
func ParseLevel(text string) (slog.Level, error) {
	var l slog.Level
	err := l.UnmarshalText([]byte(text))
	return l, err
}

func (k *checker) positive(key string, d conf.Duration) {
	if d <= 0 {
		k.fail(key, d.D(), "must be more than 0")
	}
}

func (k *checker) least(key string, n, least int) {
	if n < least {
		k.fail(key, n, "must be at least %d", least)
	}
}

func (k *checker) within(key string, n, least, most int) {
	if n < least || n > most {
		k.fail(key, n, "must be from %d to %d", least, most)
	}
}

// page checks how many rows are listed at once.
func (k *checker) page(key string, n int) {
	const most = 10000 // of a container or account server
	if n > most {
		k.fail(key, n, "is more than %d, the most that a storage node lists at once", most)
	}
}

func (k *checker) port(key string, n int) {
	if n < 1 || n > 65535 {
		k.fail(key, n, "must be a port from 1 to 65535")
	}
}

// ip checks an address to bind that peers are told, too: never "any".
func (k *checker) ip(key, text string) {
	a, err := netip.ParseAddr(text)
	switch {
	case text == "":
		k.fail(key, text, "must be the node's address on that network")
	case err != nil:
		k.fail(key, text, "is no IP address")
	case a.IsUnspecified():
		k.fail(key, text, "must be one address, since each listener binds only its own network")
	}
}

// address checks a host:port to listen on.
func (k *checker) address(key, text string) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		k.fail(key, text, "is not of the form host:port")
		return
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		k.fail(key, text, "has no port from 0 to 65535")
	}
	if host != "" && strings.ContainsAny(host, " /") {
		k.fail(key, text, "has no host name or address")
	}
}

// A place is an address that is to be listened on, and the key that says so.
type place struct{ key, address string }

// distinct refuses two listeners on one address and port.
func (k *checker) distinct(places []place) {
	if k.failed() {
		return
	}
	for i, p := range places {
		for _, q := range places[:i] {
			if clash(p.address, q.address) {
				k.fail(p.key, p.address, "is taken by %s, %q", q.key, q.address)
			}
		}
	}
}

func clash(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	anyHost := []string{"", "0.0.0.0", "::"}
	return hostA == hostB || slices.Contains(anyHost, hostA) || slices.Contains(anyHost, hostB)
}
