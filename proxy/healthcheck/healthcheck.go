// Package healthcheck answers the question of a load balancer whether this proxy
// wants requests.
package healthcheck

import (
	"context"
	"net/http"
	"os"

	"martlet/proxy/chain"
)

// New answers any request with 200 and "OK", or with 503 while the file exists
// with which an operator takes this proxy out of a balancer. "" is no file.
func New(disablePath string) chain.Handler {
	return chain.HandlerFunc(func(context.Context, *chain.Request) *chain.Response {
		if disablePath != "" {
			if _, err := os.Stat(disablePath); err == nil {
				return chain.Plain(http.StatusServiceUnavailable, "text/plain", "DISABLED BY FILE")
			}
		}
		return chain.Plain(http.StatusOK, "text/plain", "OK")
	})
}
