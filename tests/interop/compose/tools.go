//go:build tools

// Package tools pins the Compose that the provider is tested with.
package tools

import _ "github.com/docker/compose/v5/cmd"
