//go:build tools

// Package tools names the program that is built from this module's requirements.
package tools

import _ "github.com/hashicorp/vault"
