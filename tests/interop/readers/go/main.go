// Readers reads files with a reader written in Go: readers READER FILE... prints one line of JSON for each.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/BurntSushi/toml"
	compose "github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/docker/cli/pkg/kvfile"
	goccy "github.com/goccy/go-yaml"
	"github.com/joho/godotenv"
	yaml "gopkg.in/yaml.v3"
)

type line struct {
	File   string            `json:"file"`
	Values map[string]string `json:"values,omitempty"`
	Error  string            `json:"error,omitempty"`
}

func nothing(string) (string, bool) { return "", false }

// docker reads a file as `docker run --env-file` does.
func docker(path string) (map[string]string, error) {
	lines, err := kvfile.Parse(path, nothing)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		values[name] = value
	}
	return values, nil
}

// decoded reads a whole file with a decoder of structured data.
func decoded(decode func([]byte, any) error) func(string) (map[string]string, error) {
	return func(path string) (map[string]string, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		values := map[string]string{}
		return values, decode(text, &values)
	}
}

var readers = map[string]func(string) (map[string]string, error){
	"godotenv":   func(path string) (map[string]string, error) { return godotenv.Read(path) },
	"compose-go": func(path string) (map[string]string, error) { return compose.ReadFile(path, nothing) },
	"docker":     docker,
	"go-json":    decoded(json.Unmarshal),
	"go-yaml-v3": decoded(yaml.Unmarshal),
	"goccy-yaml": decoded(func(text []byte, into any) error { return goccy.Unmarshal(text, into) }),
	"go-toml":    decoded(toml.Unmarshal),
}

func main() {
	read, known := readers[os.Args[1]]
	if !known {
		fmt.Fprintln(os.Stderr, "no reader", os.Args[1])
		os.Exit(2)
	}
	out := json.NewEncoder(os.Stdout)
	for _, path := range os.Args[2:] {
		answer := line{File: path}
		values, err := read(path)
		if err != nil {
			answer.Error = fmt.Sprintf("%.400s", err.Error())
		} else {
			answer.Values = values
		}
		if err := out.Encode(answer); err != nil {
			panic(err)
		}
	}
}
