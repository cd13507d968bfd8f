package cluster

import (
	"bytes"
	"crypto/rand"
	"text/template"

	"martlet/internal/clusterkey"
	"martlet/internal/conf"
)

// A User of a development cluster.
type User struct {
	Account, Name, Key string
	Groups             []string
}

// Users are those of every development cluster: the ones that Swift's own test
// configuration has, so that its tests and examples find whom they expect.
func Users() []User {
	return []User{
		{"test", "tester", "testing", []string{".admin"}},
		{"test", "tester2", "testing2", []string{".admin"}},
		{"test2", "tester2", "testing2", []string{".admin"}},
		{"test", "tester3", "testing3", nil},
		{"test5", "tester5", "testing5", []string{"service"}},
		{"test", "tester6", "testing6", []string{".reseller_admin"}},
		{"admin", "admin", "admin", []string{".admin", ".reseller_admin"}},
	}
}

// clusterName is the name of every development cluster.
const clusterName = "dev"

// secrets are what is random in a cluster.
type secrets struct {
	suffix, token string
	key           []byte // the file
}

func newSecrets() secrets {
	return secrets{suffix: rand.Text(), token: rand.Text() + rand.Text(), key: clusterkey.NewFile()}
}

var files = template.Must(template.New("").Funcs(template.FuncMap{"text": conf.Quote, "list": conf.QuoteAll}).Parse(`
{{define "cluster"}}[cluster]
name = {{text .Cluster}}
hash_path_suffix = {{text .Suffix}} # never change it: nothing would be found again
{{if .KeyFile}}key_file = {{text .KeyFile}} # by which storage nodes know each other, and who hands out rings
{{end}}{{range .Policies}}
[[cluster.policies]]
index = {{.Index}}
name = {{text .Name}}
{{- if .Default}}
default = true
{{- end}}{{if .Shape}}
ec = {{text .Shape}}
{{- end}}
{{end}}
[rings]
folder = "rings"
{{- if .Brisk}}
check_every = "1s"
{{- end}}
{{end}}

{{define "proxy"}}# A proxy. Paths are taken from the folder of this file.

{{template "cluster" .}}
[proxy]
listen = {{text .Listen}}
{{- if .Brisk}}
post_quorum_timeout = "2s" # on a machine that is busy with everything else
{{- end}}

[admin]
listen = {{text .Admin}}

[log]
file = {{text .Log}} # empty is the standard error

[auth]
secrets = [{{text .Token}}] # the first signs tokens, all are accepted
{{range .Users}}
[[auth.users]]
account = {{text .Account}}
user = {{text .Name}}
key = {{text .Key}}
groups = {{list .Groups}}
{{end}}{{end}}

{{define "storage"}}# Storage node {{.N}}. Paths are taken from the folder of this file.

{{template "cluster" .}}
[storage]
address = {{text .Storage}}
{{- if .Forwarded}}
bind = {{text .BindStorage}}
{{- end}}
root = {{text .Root}}
devices = {{list .Devices}}
{{- if .Apart}}
in_process = false
{{- end}}
{{- if .Brisk}}
device_check_interval = "1s"
{{- end}}

[object]
port = {{.Object}}

[container]
port = {{.Container}}

[account]
port = {{.Account}}

[replication]
address = {{text .Replication}}
{{- if .Forwarded}}
bind = {{text .BindReplication}}
{{- end}}
port = {{.ReplicationPort}}

# Two segments are reserved on each device.
[store]
segment_size = {{if .Brisk}}"4MiB"{{else}}"16MiB"{{end}}
{{- if .Brisk}}

# Somebody waits for all that follows.
[store.compaction]
interval = "5s"

[store.scrub]
interval = "20s"

[databases.audit]
interval = "20s"

[replicator]
interval = "2s"
node_timeout = "5s"

[updater]
interval = "1s"

[reconciler]
interval = "5s"

[stats]
interval = "1s"
{{- else}}

# A pass looks at everything that is stored: it is worth a minute's wait.
[replicator]
interval = "1m"

# Short, so that what is counted, or missing, is soon where it belongs.
[updater]
interval = "5s"

[stats]
interval = "2s"
{{- end}}

[admin]
listen = {{text .Admin}}

[log]
file = {{text .Log}}
{{end}}

{{define "manifest"}}# What this cluster was made of. It can't be changed afterwards.
nodes = {{.Nodes}}
devices = {{.Devices}}
proxies = {{.Proxies}}
replicas = {{.Replicas}}
part_power = {{.PartPower}}
listen = {{text .Listen}}
network = {{text .Network}}
cluster_key = {{.ClusterKey}}
{{if .Forwarded}}forwarded = true
{{end}}{{if .Apart}}apart = true
{{end}}{{if .Brisk}}brisk = true
{{end}}{{with .PolicyTexts}}policies = {{list .}}
{{end}}{{end}}`))

func render(name string, data any) ([]byte, error) {
	var b bytes.Buffer
	err := files.ExecuteTemplate(&b, name, data)
	return bytes.TrimLeft(b.Bytes(), "\n"), err
}

// common is what the files of all processes say alike.
type common struct {
	Cluster, Suffix, Token, KeyFile string
	Policies                        []policyTable
	Brisk, Forwarded, Apart         bool
}

// common is that of a cluster that hashes with the suffix. Only proxies are told how tokens are signed.
func (o Options) common(suffix string) common {
	c := common{Cluster: clusterName, Suffix: suffix, Policies: o.policyTables(), Brisk: o.Brisk, Forwarded: o.Forwarded, Apart: o.Apart}
	if o.ClusterKey {
		c.KeyFile = keyFile
	}
	return c
}

// configs returns the configuration files by name.
func (o Options) configs(s secrets) (map[string][]byte, error) {
	shared := o.common(s.suffix)
	shared.Token = s.token
	all := map[string][]byte{}
	var err error
	if all[manifestFile], err = o.manifest(); err != nil {
		return nil, err
	}
	for n := 1; n <= o.Proxies; n++ {
		all[proxyFile(n)], err = render("proxy", struct {
			common
			Listen, Admin, Log string
			Users              []User
		}{shared, o.ProxyListen(n), o.proxyAdmin(n), "../log/" + proxyName(n) + ".log", Users()})
		if err != nil {
			return nil, err
		}
	}
	if o.ClusterKey {
		all[keyFile] = s.key
	}
	for n := 1; n <= o.Nodes; n++ {
		if all[storageFile(n)], err = o.storageConfig(n, s.suffix); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (o Options) manifest() ([]byte, error) {
	return render("manifest", struct {
		Options
		PolicyTexts []string
	}{o, o.policyTexts()})
}

// storageConfig returns the configuration of storage node n, of a cluster that hashes with the
// suffix.
func (o Options) storageConfig(n int, suffix string) ([]byte, error) {
	devices := make([]string, o.Devices)
	for i := range devices {
		devices[i] = deviceName(i + 1)
	}
	return render("storage", struct {
		common
		Place
		N         int
		Root, Log string
		Devices   []string
	}{o.common(suffix), o.Place(n), n, "../" + nodeName(n), "../log/" + nodeName(n) + ".log", devices})
}
