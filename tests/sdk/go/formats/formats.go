// Readers of what `export` prints: formats READER FILE prints what it reads as JSON.
package main

import (
	"encoding/json"
	"log"
	"os"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/docker/cli/pkg/kvfile"
)

func main() {
	read := map[string]func(string) (map[string]string, error){"compose": compose, "docker": docker}[os.Args[1]]
	variables, err := read(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(variables); err != nil {
		log.Fatal(err)
	}
}

// `env_file` of Docker Compose.
func compose(file string) (map[string]string, error) {
	return dotenv.Read(file)
}

// `docker run --env-file`.
func docker(file string) (map[string]string, error) {
	lines, err := kvfile.Parse(file, nil)
	variables := map[string]string{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		variables[name] = value
	}
	return variables, err
}
