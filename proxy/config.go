package proxy

import (
	"time"

	"martlet/internal/conf"
	"martlet/proxy/bulk"
	"martlet/proxy/cnamelookup"
	"martlet/proxy/containersync"
	"martlet/proxy/cors"
	"martlet/proxy/crossdomain"
	"martlet/proxy/dlo"
	"martlet/proxy/domainremap"
	"martlet/proxy/etagquoter"
	"martlet/proxy/formpost"
	"martlet/proxy/info"
	"martlet/proxy/limits"
	"martlet/proxy/listendpoints"
	"martlet/proxy/namecheck"
	"martlet/proxy/quotas"
	"martlet/proxy/ratelimit"
	"martlet/proxy/readonly"
	"martlet/proxy/slo"
	"martlet/proxy/staticweb"
	"martlet/proxy/symlink"
	"martlet/proxy/tempurl"
	"martlet/proxy/versioning"
)

// Config is what an operator may set of a proxy. Defaults gives every field its
// value; a file overrides some.
type Config struct {
	// Limits are the constraints on names, metadata and sizes, shown in /info.
	Limits limits.Limits `toml:"limits"`

	// AccountAutocreate makes an account with its first container; reading an
	// account that does not exist then shows an empty one.
	AccountAutocreate bool `toml:"account_autocreate"`
	// AllowAccountManagement lets a reseller admin PUT and DELETE accounts.
	AllowAccountManagement bool `toml:"allow_account_management"`
	// AllowOpenExpired lets GET, HEAD and POST with X-Open-Expired reach objects that
	// are past their X-Delete-At and not yet gone.
	AllowOpenExpired bool `toml:"allow_open_expired"`

	// ClientTimeout is how long a client may be silent.
	ClientTimeout conf.Duration `toml:"client_timeout"`
	// NodeTimeout is how long a storage node may be silent.
	NodeTimeout conf.Duration `toml:"node_timeout"`
	// MaxRequests is how many requests are worked on at one time, and
	// MaxBufferBytes how much memory their buffers may need, all together. What is
	// beyond is answered with 503 at once. 0 fits the machine: see Admission.
	MaxRequests    int       `toml:"max_requests"`
	MaxBufferBytes conf.Size `toml:"max_buffer_bytes"`
	// MaxConnections is how many connections of clients are open at one time. Where
	// one more comes, one that waits for its next request is closed, or the new one
	// where none does. 0 fits the machine: see Connections.
	MaxConnections int `toml:"max_connections"`
	// ClientMinRate is how many bytes a second a client has to take or send, on
	// average over a ClientTimeout, while more than half of that is in use; 0 is no
	// bound.
	ClientMinRate conf.Size `toml:"client_min_rate"`

	// Routing is whom requests ask, and Policies what of it is different for the objects
	// of a policy, by name or alias.
	Routing
	Policies map[string]PolicyRouting `toml:"policies"`

	// RecoverableNodeTimeout is how long a storage node may take to begin its
	// answer to a read before another one is asked.
	RecoverableNodeTimeout conf.Duration `toml:"recoverable_node_timeout"`
	// ConnTimeout is how long making a connection to a storage node may take.
	ConnTimeout conf.Duration `toml:"conn_timeout"`
	// PostQuorumTimeout is how long a write waits for the replicas that have not
	// answered when a quorum has.
	PostQuorumTimeout conf.Duration `toml:"post_quorum_timeout"`
	// ErrorLimit is how many errors within ErrorLimitSpan put a device last.
	ErrorLimit     int           `toml:"error_limit"`
	ErrorLimitSpan conf.Duration `toml:"error_limit_span"`

	// InfoCache is how long what is known of an account or container may be used
	// again.
	InfoCache conf.Duration `toml:"info_cache"`

	// SLO and DLO are static and dynamic large objects.
	SLO slo.Config `toml:"slo"`
	DLO dlo.Config `toml:"dlo"`

	// Symlink is objects that stand for others.
	Symlink symlink.Config `toml:"symlink"`

	// TempURL is temporary URLs.
	TempURL tempurl.Config `toml:"tempurl"`

	// Bulk is many deletes, and archives, in one request.
	Bulk bulk.Config `toml:"bulk"`

	// ContainerSync is which other clusters bring what containers hold.
	ContainerSync containersync.Config `toml:"container_sync"`

	// CORS is which scripts browsers let use containers.
	CORS cors.Config `toml:"cors"`

	// Quotas is whose quotas count.
	Quotas quotas.Config `toml:"quotas"`
	// CrossDomain is /crossdomain.xml.
	CrossDomain crossdomain.Config `toml:"crossdomain"`

	// NameCheck is which names are refused.
	NameCheck namecheck.Config `toml:"name_check"`

	// ReadOnly is which accounts nobody changes.
	ReadOnly readonly.Config `toml:"read_only"`

	// EtagQuoter is whether ETags of objects have quotes.
	EtagQuoter etagquoter.Config `toml:"etag_quoter"`

	// DomainRemap finds accounts and containers in the names of hosts.
	DomainRemap domainremap.Config `toml:"domain_remap"`

	// StaticWeb serves containers as web sites.
	StaticWeb staticweb.Config `toml:"staticweb"`

	// FormPost takes files from forms in web pages.
	FormPost formpost.Config `toml:"formpost"`
	// Versioning is which kinds of versioning containers may have.
	Versioning versioning.Config `toml:"versioning"`

	// RateLimit holds back accounts and containers that change too fast.
	RateLimit ratelimit.Config `toml:"ratelimit"`

	// CNAMELookup finds hosts of DomainRemap behind domains of others.
	CNAMELookup cnamelookup.Config `toml:"cname_lookup"`

	// ListEndpoints tells where things are.
	ListEndpoints listendpoints.Config `toml:"list_endpoints"`

	// Info is what /info shows, and the file that disables /healthcheck.
	Info info.Config `toml:"info"`
}

// Defaults returns the configuration of a proxy whose file sets nothing.
func Defaults() Config {
	return Config{
		Limits:            limits.Defaults(),
		AccountAutocreate: true,
		ClientTimeout:     conf.Duration(time.Minute),
		NodeTimeout:       conf.Duration(10 * time.Second),
		ConnTimeout:       conf.Duration(500 * time.Millisecond),

		ClientMinRate:          64,
		Routing:                defaultRouting(),
		RecoverableNodeTimeout: conf.Duration(500 * time.Millisecond),
		PostQuorumTimeout:      conf.Duration(500 * time.Millisecond),
		ErrorLimit:             10,
		ErrorLimitSpan:         conf.Duration(time.Minute),
		InfoCache:              conf.Duration(2 * time.Second),
		SLO:                    slo.Defaults(),
		DLO:                    dlo.Defaults(),
		Symlink:                symlink.Defaults(),
		TempURL:                tempurl.Defaults(),
		Bulk:                   bulk.Defaults(),
		ContainerSync:          containersync.Defaults(),
		CORS:                   cors.Defaults(),
		Quotas:                 quotas.Defaults(),
		CrossDomain:            crossdomain.Defaults(),
		NameCheck:              namecheck.Defaults(),
		ReadOnly:               readonly.Defaults(),
		EtagQuoter:             etagquoter.Defaults(),
		DomainRemap:            domainremap.Defaults(),
		StaticWeb:              staticweb.Defaults(),
		FormPost:               formpost.Defaults(),
		Versioning:             versioning.Defaults(),
		RateLimit:              ratelimit.Defaults(),
		CNAMELookup:            cnamelookup.Defaults(),
		ListEndpoints:          listendpoints.Defaults(),
		Info:                   info.Defaults(),
	}
}
