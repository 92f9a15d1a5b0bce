// Prints the parameters of one mirror as JSON: reader REDIS_URL KEY [FILE_WITH_SUB_KEYS [All]]
package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

var (
	enc     = regexp.MustCompile(`^(?:none|(SecureStrings|All):pm1:([a-z0-9-]+))$`)
	mac     = regexp.MustCompile(`^pm1:([a-z0-9-]+):([A-Za-z0-9_-]+)$`)
	covered = []string{"@format", "@enc", "@source", "@revision", "@readAt", "@count", "@params", "@mac"}
)

func read(url, key string, subKeys map[string][]byte, least string) (map[string]string, error) {
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
	if subKeys != nil {
		if err := verify(fields, key, subKeys); err != nil {
			return nil, err
		}
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
		secure := line.Type == "SecureString"
		if mode[1] == "All" || mode[1] == "SecureStrings" && secure {
			if value, err = open(subKeys[mode[2]], mode[2], key, name, value); err != nil {
				return nil, err
			}
		} else if least == "All" || secure && subKeys != nil {
			return nil, fmt.Errorf("%s is a %s that is not encrypted", name, line.Type)
		}
		values[name] = value
	}
	return values, nil
}

// Fails unless these fields were written with the sub-key of this mirror.
func verify(fields map[string]string, key string, subKeys map[string][]byte) error {
	found := append(mac.FindStringSubmatch(fields["@readerMac"]), "", "", "")
	keyID, text := found[1], found[2]
	subKey := subKeys[keyID]
	if subKey == nil {
		return fmt.Errorf("@readerMac needs the key %s, which is not given", keyID)
	}
	items := []string{"pm1", keyID, "set", key}
	for _, name := range covered {
		items = append(items, fields[name])
	}
	var names []string
	for name := range fields {
		if strings.HasPrefix(name, "/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		items = append(items, name, fields[name])
	}
	macKey := sum(subKey, []byte("parameter-mirror/1/reader-mac"))
	stored, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || !hmac.Equal(stored, sum(macKey, lp(items...))) {
		return fmt.Errorf("@readerMac does not fit: the hash was changed, or the sub-key is that of another mirror")
	}
	return nil
}

func sum(key, message []byte) []byte {
	hash := hmac.New(sha256.New, key)
	hash.Write(message)
	return hash.Sum(nil)
}

func lp(items ...string) []byte {
	var all []byte
	for _, item := range items {
		all = append(binary.BigEndian.AppendUint32(all, uint32(len(item))), item...)
	}
	return all
}

func open(subKey []byte, keyID, key, name, stored string) (string, error) {
	if subKey == nil {
		return "", fmt.Errorf("%s is encrypted with the key %s, which is not given", name, keyID)
	}
	text, found := strings.CutPrefix(stored, "pm1:"+keyID+":")
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if !found || err != nil || len(sealed) < 12 {
		return "", fmt.Errorf("%s is not encrypted with the key %s", name, keyID)
	}
	block, err := aes.NewCipher(subKey)
	if err != nil {
		return "", err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return "", err
	}
	value, err := gcm.Open(nil, sealed[:12], sealed[12:], lp("pm1", keyID, key, name))
	if err != nil {
		return "", fmt.Errorf("%s does not decrypt", name)
	}
	return string(value), nil
}

func main() {
	arguments := append(os.Args[1:], "", "")
	url, key, file, least := arguments[0], arguments[1], arguments[2], arguments[3]
	var subKeys map[string][]byte
	must := func(err error) {
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", key, err)
			os.Exit(1)
		}
	}
	if file != "" {
		lines, err := os.ReadFile(file)
		must(err)
		subKeys = map[string][]byte{}
		for _, line := range strings.Fields(string(lines)) {
			id, text, _ := strings.Cut(line, ":")
			subKeys[id], err = base64.RawURLEncoding.DecodeString(text)
			must(err)
		}
	}
	values, err := read(url, key, subKeys, least)
	must(err)
	must(json.NewEncoder(os.Stdout).Encode(values))
}
