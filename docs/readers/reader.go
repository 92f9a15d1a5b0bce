// Prints the parameters of one mirror as JSON: reader REDIS_URL KEY [FILE_WITH_SUB_KEYS]
package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

var enc = regexp.MustCompile(`^(?:none|(SecureStrings|All):pm1:([a-z0-9-]+))$`)

func read(url, key string, subKeys map[string]cipher.AEAD) (map[string]string, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	logging.Disable() // else each attempt to connect prints a line of its own
	client := redis.NewClient(options)
	defer client.Close()
	fields, err := client.HGetAll(context.Background(), key).Result() // one command, so all of it is of one moment
	if err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		return nil, fmt.Errorf("no such hash")
	}
	if fields["@format"] != "1" {
		return nil, fmt.Errorf("the layout is %s, not 1", fields["@format"])
	}
	var params map[string]struct{ Type string }
	if err := json.Unmarshal([]byte(fields["@params"]), &params); err != nil {
		return nil, fmt.Errorf("@params: %w", err)
	}
	if fields["@count"] != strconv.Itoa(len(params)) {
		return nil, fmt.Errorf("@count is %s, but @params names %d", fields["@count"], len(params))
	}
	mode := enc.FindStringSubmatch(fields["@enc"])
	if mode == nil {
		return nil, fmt.Errorf("@enc is %s", fields["@enc"])
	}
	values := map[string]string{}
	for name, line := range params {
		value, found := fields[name]
		if !found {
			return nil, fmt.Errorf("%s is in @params and has no field", name)
		}
		if mode[1] == "All" || mode[1] == "SecureStrings" && line.Type == "SecureString" {
			if value, err = open(subKeys[mode[2]], mode[2], key, name, value); err != nil {
				return nil, err
			}
		}
		values[name] = value
	}
	return values, nil
}

func open(subKey cipher.AEAD, keyID, key, name, stored string) (string, error) {
	if subKey == nil {
		return "", fmt.Errorf("%s is encrypted with the key %s, which is not given", name, keyID)
	}
	text, found := strings.CutPrefix(stored, "pm1:"+keyID+":")
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if !found || err != nil || len(sealed) < 12 {
		return "", fmt.Errorf("%s is not encrypted with the key %s", name, keyID)
	}
	var bound []byte
	for _, part := range []string{"pm1", keyID, key, name} {
		bound = append(binary.BigEndian.AppendUint32(bound, uint32(len(part))), part...)
	}
	value, err := subKey.Open(nil, sealed[:12], sealed[12:], bound)
	if err != nil {
		return "", fmt.Errorf("%s does not decrypt", name)
	}
	return string(value), nil
}

func main() {
	url, key, subKeys := os.Args[1], os.Args[2], map[string]cipher.AEAD{}
	must := func(err error) {
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", key, err)
			os.Exit(1)
		}
	}
	if len(os.Args) > 3 {
		lines, err := os.ReadFile(os.Args[3])
		must(err)
		for _, line := range strings.Fields(string(lines)) {
			id, text, _ := strings.Cut(line, ":")
			bytes, err := base64.RawURLEncoding.DecodeString(text)
			must(err)
			block, err := aes.NewCipher(bytes)
			must(err)
			subKeys[id], err = cipher.NewGCM(block)
			must(err)
		}
	}
	values, err := read(url, key, subKeys)
	must(err)
	must(json.NewEncoder(os.Stdout).Encode(values))
}
