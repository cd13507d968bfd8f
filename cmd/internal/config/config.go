// Package config is the configuration of Martlet's processes: one TOML file each,
// typed, with every default in one place and every value checked before anything
// is opened.
//
// An error is one line that names the file, the key and the value. Secrets are
// not shown. A path that is not absolute is taken from the folder of the file it
// stands in, so that a folder with all of a cluster in it can be moved.
package config

import (
	"cmp"
	"crypto/tls"
	"time"

	"martlet/internal/conf"
	"martlet/internal/metadb"
	"martlet/internal/realms"
	"martlet/internal/throttle"
	"martlet/object/engine"
	"martlet/proxy"
	"martlet/proxy/auth"
	"martlet/proxy/limits"
	"martlet/replicator"
	"martlet/replicator/containersync"
	"martlet/replicator/expiry"
	"martlet/replicator/reaper"
	"martlet/replicator/reconciler"
)

// Cluster is what every process of a cluster is told alike.
type Cluster struct {
	// Name tells clusters apart for people: logs, status, metrics.
	Name string `toml:"name"`

	// HashPathPrefix and HashPathSuffix are hashed with every path. They are
	// secret, one of them is not empty, and neither may ever change.
	HashPathPrefix string `toml:"hash_path_prefix"`
	HashPathSuffix string `toml:"hash_path_suffix"`

	// KeyFile is the file with the cluster's keys, by which storage nodes know each other on the
	// replication network, where empty trusts the addresses; and any process who hands it rings,
	// where empty takes none.
	KeyFile string `toml:"key_file"`

	// Policies are the storage policies. Without any there is one, "Policy-0".
	Policies []Policy `toml:"policies"`
}

// Policy is one storage policy.
type Policy struct {
	Index      int      `toml:"index"`
	Name       string   `toml:"name"`
	Aliases    []string `toml:"aliases"`
	Default    bool     `toml:"default"`
	Deprecated bool     `toml:"deprecated"`

	// EC makes it one of erasure coding: how many fragments hold data, and how many of
	// all may be lost, such as "4+2". Empty replicates. It may never change.
	EC string `toml:"ec"`
	// WholeUpTo is up to which size objects under it are kept whole, as replicas, since
	// that costs less than fragments: 8 KiB, at most 64 KiB.
	WholeUpTo *conf.Size `toml:"whole_up_to"`
}

// Of objects under erasure coding.
const (
	defaultWholeUpTo = 8 << 10
	maxWholeUpTo     = 64 << 10
)

// Rings says where the ring files are: account.ring.gz, container.ring.gz,
// object.ring.gz, and object-N.ring.gz for the policy of index N.
type Rings struct {
	Folder     string        `toml:"folder"`
	CheckEvery conf.Duration `toml:"check_every"` // how often the files are looked at for a newer ring
}

// Log says what is logged and where to.
type Log struct {
	Level    string `toml:"level"`    // debug, info, warn or error
	Format   string `toml:"format"`   // text or json
	File     string `toml:"file"`     // appended to; empty is the standard error
	Requests string `toml:"requests"` // the level at which each request is a line
}

// Admin is the address for those who run the process, not for clients.
type Admin struct {
	Listen    string `toml:"listen"` // host:port of /metrics and /healthcheck; empty is none
	Profiling bool   `toml:"profiling"`
}

// Proxy is the file of a proxy process.
type Proxy struct {
	Path string `toml:"-"` // the file itself

	Cluster Cluster     `toml:"cluster"`
	Rings   Rings       `toml:"rings"`
	Server  ProxyServer `toml:"proxy"`
	Auth    Auth        `toml:"auth"`
	Admin   Admin       `toml:"admin"`
	Log     Log         `toml:"log"`
}

// ProxyServer is where a proxy listens, and what package proxy wants to know.
type ProxyServer struct {
	Listen       string        `toml:"listen"`        // host:port for clients
	DrainTimeout conf.Duration `toml:"drain_timeout"` // for requests that are under way at the end

	TLS TLS `toml:"tls"`

	proxy.Config
}

// TLS has a proxy speak HTTPS, and nothing else.
type TLS struct {
	// CertFile and KeyFile are PEM: the certificate, and those of who signed it, and its key. Both or neither are set.
	// They are read again when they have changed.
	CertFile   string `toml:"cert_file"`
	KeyFile    string `toml:"key_file"`
	MinVersion string `toml:"min_version"` // "1.2" or "1.3"
}

// Least is MinVersion as package crypto/tls has it.
func (c TLS) Least() uint16 {
	if c.MinVersion == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// Auth is who may use the cluster.
type Auth struct {
	// Secrets sign tokens: the first signs, all are accepted, so that one can
	// be replaced while tokens of the other are in use. Every proxy of a cluster
	// has the same; storage nodes have none.
	Secrets []string `toml:"secrets"`

	auth.Config
}

// Storage is the file of a storage process.
type Storage struct {
	Path string `toml:"-"`

	Cluster     Cluster       `toml:"cluster"`
	Rings       Rings         `toml:"rings"`
	Server      StorageServer `toml:"storage"`
	Limits      StorageLimits `toml:"limits"`
	Object      Object        `toml:"object"`
	Store       Store         `toml:"store"`
	Databases   Databases     `toml:"databases"`
	Container   Service       `toml:"container"`
	Account     Service       `toml:"account"`
	Replication Replication   `toml:"replication"`
	Replicator  Replicator    `toml:"replicator"`
	Updater     Loop          `toml:"updater"`
	Expirer     Expirer       `toml:"expirer"`
	Reaper      Reaper        `toml:"account_reaper"`
	Sync        ContainerSync `toml:"container_sync"`
	Reconciler  Reconciler    `toml:"reconciler"`
	Stats       Loop          `toml:"stats"`

	// BackendRateLimit is how many requests each of the node's servers takes in a second.
	BackendRateLimit throttle.Rates `toml:"backend_ratelimit"`

	Admin Admin `toml:"admin"`
	Log   Log   `toml:"log"`
}

// StorageServer is a node's place on the storage network and its devices.
type StorageServer struct {
	Address string   `toml:"address"` // on the storage network, as the rings have it
	Bind    string   `toml:"bind"`    // where it listens and speaks from, if that is not Address: something before it forwards
	Root    string   `toml:"root"`    // the folder that the devices are in
	Devices []string `toml:"devices"` // their names, as the rings have them

	ClientTimeout conf.Duration `toml:"client_timeout"` // the longest a proxy may be silent
	NodeTimeout   conf.Duration `toml:"node_timeout"`   // the longest another node may be silent
	ConnTimeout   conf.Duration `toml:"conn_timeout"`   // for a connection to another node
	DrainTimeout  conf.Duration `toml:"drain_timeout"`  // for requests that are under way at the end

	// InProcess says that what shares the process goes through memory: updates of listings for the node's own servers are handed to
	// them, and connections with a proxy or node of the same process are no sockets.
	InProcess bool `toml:"in_process"`

	// DeviceCheckInterval is how often each device is looked at.
	DeviceCheckInterval conf.Duration `toml:"device_check_interval"`

	ClockSkew     conf.Duration `toml:"clock_skew"`     // how far ahead of this node's clock a write's time may be
	OpenDatabases int           `toml:"open_databases"` // of each kind, kept open on each device while nobody uses them
	MaxRequests   int           `toml:"max_requests"`   // that each server works on at one time; others are answered with 503
}

// StorageLimits are limits that only the stored state can tell the passing of. They
// should be those of the proxies.
type StorageLimits struct {
	MaxMetaCount       int `toml:"max_meta_count"`
	MaxMetaOverallSize int `toml:"max_meta_overall_size"`
}

// Service is one of a node's servers.
type Service struct {
	Enabled bool `toml:"enabled"`
	Port    int  `toml:"port"`
}

// Object is the object server.
type Object struct {
	Service

	// ContainerUpdateTimeout bounds how long an answer waits for the listing;
	// what is late then is queued.
	ContainerUpdateTimeout conf.Duration `toml:"container_update_timeout"`
}

// Store is how objects are kept on the devices.
type Store struct {
	Threshold    conf.Size `toml:"threshold"`     // up to that size data is kept in the log; what is larger has a file of its own
	SegmentSize  conf.Size `toml:"segment_size"`  // of the log; less where a device is small
	ZeroSegments bool      `toml:"zero_segments"` // segments are filled with zeros before they are used

	// QuarantineAge is for how long what was damaged is kept aside at least; a scrub removes it then. Zero is for ever.
	QuarantineAge conf.Duration `toml:"quarantine_age"`

	Compaction Pace `toml:"compaction"` // of what is mostly dead
	Scrub      Pace `toml:"scrub"`      // reading everything, to find what is damaged
}

// Databases is how the databases of accounts and containers are kept.
type Databases struct {
	Audit Pace `toml:"audit"` // checking all of them, and giving back what they don't need
}

// Pace is background work that is held back.
type Pace struct {
	Loop
	BytesPerSecond conf.Size `toml:"bytes_per_second"` // of each device; 0 is no limit
}

// Replication is the node's place on the replication network.
type Replication struct {
	Enabled bool   `toml:"enabled"`
	Address string `toml:"address"` // as the rings have it
	Bind    string `toml:"bind"`    // as for the storage network
	Port    int    `toml:"port"`

	// Peers are networks, as "10.0.0.0/24", that replication requests are taken
	// from beside the addresses that the rings have.
	Peers []string `toml:"peers"`
}

// Replicator is the background work that brings replicas to where the rings say,
// and how peers are asked for it.
type Replicator struct {
	Loop

	NodeTimeout conf.Duration `toml:"node_timeout"` // the longest a peer may be silent
	ReclaimAge  conf.Duration `toml:"reclaim_age"`  // after which tombstones may be forgotten; the same everywhere

	// Of each device, and what `martlet replicate --set` changes while the node runs.
	Concurrency         int       `toml:"concurrency"`           // partitions under way at one time
	BytesPerSecond      conf.Size `toml:"bytes_per_second"`      // that it pushes; 0 is no limit
	OperationsPerSecond int64     `toml:"operations_per_second"` // requests to peers; 0 is no limit
	Incoming            int       `toml:"incoming"`              // pushes of peers that it takes at one time
}

// Limits returns those that each device begins with.
func (c *Replicator) Limits() replicator.Limits {
	return replicator.Limits{
		BytesPerSecond: int64(c.BytesPerSecond), OperationsPerSecond: c.OperationsPerSecond, Concurrency: c.Concurrency, Incoming: c.Incoming,
	}
}

// Listens is the address that the node's servers listen on.
func (c *StorageServer) Listens() string { return cmp.Or(c.Bind, c.Address) }

// Listens is the address that replication listens on, and leaves from.
func (c *Replication) Listens() string { return cmp.Or(c.Bind, c.Address) }

// Loop is a piece of background work.
type Loop struct {
	Enabled  bool          `toml:"enabled"`
	Interval conf.Duration `toml:"interval"`
}

// Expirer ends objects that have come to their X-Delete-At.
type Expirer struct {
	Loop
	ObjectsPerSecond int           `toml:"objects_per_second"` // of each device; 0 is no limit
	Delay            conf.Duration `toml:"delay"`              // for which they are left as they are before
}

// Reaper takes away what is in accounts that were deleted.
type Reaper struct {
	Loop
	DelayReaping     conf.Duration `toml:"delay_reaping"`      // after an account was deleted
	ReapWarnAfter    conf.Duration `toml:"reap_warn_after"`    // that much later the log says that something is left
	Concurrency      int           `toml:"concurrency"`        // objects that are deleted at one time, for each device
	ObjectsPerSecond int64         `toml:"objects_per_second"` // that are deleted for each device; 0 is no limit
}

// ContainerSync brings what containers hold to other clusters.
type ContainerSync struct {
	Loop
	realms.Config

	ContainerTime  conf.Duration `toml:"container_time"`   // that one container may take in a pass
	Concurrency    int           `toml:"concurrency"`      // containers at one time
	RowConcurrency int           `toml:"row_concurrency"`  // objects of one of them at one time
	ConnTimeout    conf.Duration `toml:"conn_timeout"`     // for a connection to the other cluster
	Timeout        conf.Duration `toml:"timeout"`          // for which it may be silent
	BytesPerSecond conf.Size     `toml:"bytes_per_second"` // that the node sends; 0 is no limit
	Proxies        []string      `toml:"sync_proxy"`       // HTTP proxies, of which one is taken by chance
}

// Possible reports whether there is anywhere to sync to.
func (c *ContainerSync) Possible() bool {
	return c.Enabled && (c.File != "" || len(c.Realms) > 0 || len(c.AllowedHosts) > 0)
}

// Reconciler moves objects that lie in the place of another policy than their container's.
type Reconciler struct {
	Loop
	Delay            conf.Duration `toml:"delay"`              // for which the replicas of a container must have agreed on its policy before
	Concurrency      int           `toml:"concurrency"`        // objects that the node moves at one time
	ObjectsPerSecond int64         `toml:"objects_per_second"` // that it moves; 0 is no limit
	BytesPerSecond   conf.Size     `toml:"bytes_per_second"`   // of their data; 0 is no limit
}

func seconds(n float64) conf.Duration { return conf.Duration(n * float64(time.Second)) }

// DefaultProxy is a proxy's file with nothing in it.
func DefaultProxy() *Proxy {
	return &Proxy{
		Cluster: Cluster{Name: "martlet"},
		Rings:   Rings{CheckEvery: seconds(15)},
		Server:  ProxyServer{Listen: "127.0.0.1:8080", DrainTimeout: seconds(30), TLS: TLS{MinVersion: "1.2"}, Config: proxy.Defaults()},
		Auth:    Auth{Config: auth.Defaults()},
		Admin:   Admin{Listen: "127.0.0.1:6209"},
		Log:     Log{Level: "info", Format: "text", Requests: "info"},
	}
}

// DefaultStorage is a storage node's file with nothing in it.
func DefaultStorage() *Storage {
	return &Storage{
		Cluster: Cluster{Name: "martlet"},
		Rings:   Rings{CheckEvery: seconds(15)},
		Server: StorageServer{
			ClientTimeout: seconds(60), NodeTimeout: seconds(3), ConnTimeout: seconds(.5), DrainTimeout: seconds(30),
			InProcess: true, DeviceCheckInterval: seconds(5), ClockSkew: seconds(60), OpenDatabases: metadb.DefaultOpen, MaxRequests: 4096,
		},
		Limits: StorageLimits{MaxMetaCount: limits.Defaults().MaxMetaCount, MaxMetaOverallSize: limits.Defaults().MaxMetaOverallSize},
		Object: Object{Service: Service{Enabled: true, Port: 6200}, ContainerUpdateTimeout: seconds(1)},
		Store: Store{
			Threshold: conf.Size(engine.Defaults().Threshold), SegmentSize: conf.Size(engine.Defaults().SegmentSize), QuarantineAge: seconds(30 * 24 * 3600),
			Compaction: Pace{Loop{Enabled: true, Interval: seconds(60)}, 50 << 20},
			Scrub:      Pace{Loop{Enabled: true, Interval: seconds(7 * 24 * 3600)}, 20 << 20},
		},
		Databases:   Databases{Audit: Pace{Loop{Enabled: true, Interval: seconds(7 * 24 * 3600)}, 20 << 20}},
		Container:   Service{Enabled: true, Port: 6201},
		Account:     Service{Enabled: true, Port: 6202},
		Replication: Replication{Enabled: true, Port: 6203},
		Replicator: Replicator{
			Loop: Loop{Enabled: true, Interval: seconds(30)}, NodeTimeout: seconds(10), ReclaimAge: seconds(7 * 24 * 3600),
			Concurrency: replicator.DefaultLimits().Concurrency, Incoming: replicator.DefaultLimits().Incoming,
		},
		Updater: Loop{Enabled: true, Interval: seconds(30)},
		Expirer: Expirer{Loop: Loop{Enabled: true, Interval: seconds(10)}, ObjectsPerSecond: expiry.Defaults().PerSecond},
		Reaper: Reaper{
			Loop: Loop{Enabled: true, Interval: seconds(3600)}, ReapWarnAfter: conf.Duration(reaper.Defaults().WarnAfter),
			Concurrency: reaper.Defaults().Concurrency, ObjectsPerSecond: reaper.Defaults().PerSecond,
		},
		Sync: ContainerSync{
			Loop: Loop{Enabled: true, Interval: seconds(300)}, ContainerTime: conf.Duration(containersync.Defaults().ContainerTime),
			Concurrency: containersync.Defaults().Containers, RowConcurrency: containersync.Defaults().Rows,
			ConnTimeout: seconds(5), Timeout: conf.Duration(containersync.Defaults().Timeout),
		},
		Reconciler: Reconciler{
			Loop: Loop{Enabled: true, Interval: seconds(30)}, Delay: conf.Duration(reconciler.Defaults().Delay),
			Concurrency: reconciler.Defaults().Concurrency, ObjectsPerSecond: reconciler.Defaults().PerSecond,
		},
		Stats: Loop{Enabled: true, Interval: seconds(30)},
		Admin: Admin{Listen: "127.0.0.1:6209"},
		Log:   Log{Level: "info", Format: "text", Requests: "debug"},
	}
}
