package cluster

import (
	"testing"
	"time"

	"martlet/internal/conf"
	"martlet/internal/name"
)

// Running nodes forget a container that was deleted, once it is old enough and the account knows.
func TestDeletedIsForgottenInTime(t *testing.T) {
	p := startProbe(t)
	for n := range p.configs {
		p.stop(n + 1)
		c := p.configs[n]
		c.Replicator.ReclaimAge = conf.Duration(4 * time.Second)
		c.Stats.Interval = conf.Duration(100 * time.Millisecond)
		p.start(n + 1)
	}
	path := name.Path{Account: "AUTH_test", Container: "forgotten"}
	p.until("the container is made and deleted", func() bool {
		made, err := p.answer("PUT", p.url+"/forgotten", "", 201)
		if err != nil {
			t.Log(made, err) // nodes have only just come
			return false
		}
		_, err = p.answer("DELETE", p.url+"/forgotten", "", 204)
		return err == nil
	})
	p.agree(path, "X-Backend-Delete-Timestamp", "404 :")
	p.want("PUT", p.url+"/forgotten", nil, "", 201)
}
