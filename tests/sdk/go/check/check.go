// aws-sdk-go-v2 against whatever AWS_ENDPOINT_URL_SSM names: check-go expected.json
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

type parameter struct {
	Type    string
	Value   string
	Version int64
}

var expected struct {
	Ask struct {
		String, SecureString, Absent, Path string
		Many                               []string
	}
	Parameters map[string]parameter
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	must("read", err)
	must("parse", json.Unmarshal(text, &expected))
	ask, ctx := expected.Ask, context.Background()
	settings, err := config.LoadDefaultConfig(ctx)
	must("settings", err)
	client := ssm.NewFromConfig(settings)

	for _, name := range []string{ask.String, ask.SecureString} {
		got, err := client.GetParameter(ctx, &ssm.GetParameterInput{Name: &name, WithDecryption: aws.Bool(true)})
		must("GetParameter "+name, err)
		check("GetParameter", name, *got.Parameter)
	}

	many, err := client.GetParameters(ctx, &ssm.GetParametersInput{
		Names: append([]string{ask.Absent}, ask.Many...), WithDecryption: aws.Bool(true),
	})
	must("GetParameters", err)
	same("GetParameters, InvalidParameters", []string{ask.Absent}, many.InvalidParameters)
	same("GetParameters, names", slices.Sorted(slices.Values(ask.Many)), slices.Sorted(slices.Values(names(many.Parameters))))
	for _, got := range many.Parameters {
		check("GetParameters", *got.Name, got)
	}

	var listed []types.Parameter
	pages := ssm.NewGetParametersByPathPaginator(client, &ssm.GetParametersByPathInput{
		Path: &ask.Path, Recursive: aws.Bool(true), WithDecryption: aws.Bool(true), MaxResults: aws.Int32(3),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		must("GetParametersByPath", err)
		if len(page.Parameters) > 3 {
			fail("GetParametersByPath: a page of %d", len(page.Parameters))
		}
		listed = append(listed, page.Parameters...)
	}
	var wanted []string
	for name := range expected.Parameters {
		wanted = append(wanted, name)
	}
	slices.Sort(wanted)
	same("GetParametersByPath, names", wanted, names(listed))
	for _, got := range listed {
		check("GetParametersByPath", *got.Name, got)
	}

	_, err = client.GetParameter(ctx, &ssm.GetParameterInput{Name: &ask.Absent})
	if absent := (*types.ParameterNotFound)(nil); !errors.As(err, &absent) {
		fail("GetParameter %s: expected ParameterNotFound, got %v", ask.Absent, err)
	}

	fmt.Printf("aws-sdk-go-v2: %d parameters as expected\n", len(listed))
}

func check(call, name string, got types.Parameter) {
	same(call+" "+name, expected.Parameters[name], parameter{string(got.Type), aws.ToString(got.Value), got.Version})
	// Seconds taken for milliseconds, or the other way round, are decades off.
	modified := aws.ToTime(got.LastModifiedDate)
	if modified.Year() <= 2020 || modified.After(time.Now().AddDate(0, 0, 1)) {
		fail("%s %s: LastModifiedDate is %v", call, name, modified)
	}
}

func names(parameters []types.Parameter) (names []string) {
	for _, parameter := range parameters {
		names = append(names, aws.ToString(parameter.Name))
	}
	return names
}

func same(what string, wanted, got any) {
	if !reflect.DeepEqual(wanted, got) {
		fail("%s: expected %#v, got %#v", what, wanted, got)
	}
}

func must(what string, err error) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func fail(format string, parts ...any) {
	fmt.Fprintf(os.Stderr, "aws-sdk-go-v2: "+format+"\n", parts...)
	os.Exit(1)
}
