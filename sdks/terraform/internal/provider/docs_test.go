package provider

import (
	"fmt"
	"os"
	"sort"
	"strings"
	"testing"

	"license-metering.example/terraform-provider-licensemetering/internal/tfplugin"
)

// The section of each page that lists the attributes is made from the schemas. UPDATE_DOCS=1 writes it.
func TestPagesListWhatTheSchemasHave(t *testing.T) {
	schemas := New().Schemas()
	checkPage(t, "index.md", schemas.Provider)
	for name, schema := range schemas.Resources {
		checkPage(t, "resources/"+strings.TrimPrefix(name, "licensemetering_")+".md", schema)
	}
	for name, schema := range schemas.DataSources {
		checkPage(t, "data-sources/"+strings.TrimPrefix(name, "licensemetering_")+".md", schema)
	}
}

func checkPage(t *testing.T, name string, schema tfplugin.Schema) {
	t.Helper()
	path := "../../docs/" + name
	page, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	head, _, _ := strings.Cut(string(page), "## Schema\n")
	if !strings.Contains(head, schema.Description) {
		t.Errorf("%s does not hold the description: %s", name, schema.Description)
	}
	wanted := head + "## Schema\n" + attributeLists(schema)
	if wanted == string(page) {
		return
	}
	if os.Getenv("UPDATE_DOCS") == "" {
		t.Errorf("%s does not list what the schema has; UPDATE_DOCS=1 go test ./internal/provider writes it", name)
		return
	}
	if err := os.WriteFile(path, []byte(wanted), 0o666); err != nil {
		t.Error(err)
	}
}

func attributeLists(schema tfplugin.Schema) string {
	lists := map[string][]string{}
	for _, attribute := range schema.Attributes {
		list := "Read-Only"
		if attribute.Required {
			list = "Required"
		} else if attribute.Optional {
			list = "Optional"
		}
		kind := attribute.Type.Describe()
		if attribute.Sensitive {
			kind += ", Sensitive"
		}
		lists[list] = append(lists[list], fmt.Sprintf("- `%s` (%s) %s\n", attribute.Name, kind, attribute.Description))
	}
	result := ""
	for _, list := range []string{"Required", "Optional", "Read-Only"} {
		if len(lists[list]) > 0 {
			sort.Strings(lists[list])
			result += "\n### " + list + "\n\n" + strings.Join(lists[list], "")
		}
	}
	return result
}
