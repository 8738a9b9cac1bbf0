//go:build tools

// Package tools names the programs that are built from this module's requirements.
package tools

import (
	_ "filippo.io/age/cmd/age-keygen"
	_ "github.com/getsops/sops/v3/cmd/sops"
)
