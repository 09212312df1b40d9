"""Drives the provider with a real Terraform against the real metering-api with a real PostgreSQL.

    acceptance.py PROVIDER_FOLDER TERRAFORM...

METER_TEST_DATABASE_URL names a server on which a database can be made. The first Terraform goes through all scenarios,
others through the first.
"""

import base64
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import uuid

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "conformance"))
import real_service  # noqa: E402

SOURCE = "license-metering.example/license-metering/licensemetering"
HEAD = f"""
terraform {{
  required_providers {{
    licensemetering = {{
      source = "{SOURCE}"
    }}
  }}
}}
"""


class API:
    """The running metering-api, as somebody beside Terraform uses it."""

    def __init__(self, url, token, settings):
        self.url, self.token, self.settings = url, token, settings

    def ask(self, method, path, body=None):
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", "Bearer " + self.token)
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, data, timeout=20) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def meterctl(self, *arguments):
        return real_service.meterctl(self.settings, *arguments)


@contextlib.contextmanager
def started(folder, database_url):
    database = "terraform_" + uuid.uuid4().hex[:12]
    own_url = database_url.rsplit("/", 1)[0] + "/" + database
    psql = pathlib.Path(os.environ.get("METER_TEST_PG_BIN", "/usr/lib/postgresql/15/bin")) / "psql"
    real_service.run([psql, database_url, "-qc", f"create database {database}"])
    process = None
    try:
        port, admin = real_service.free_port(), real_service.free_port()
        settings = {
            "METER_DATABASE_URL": own_url,
            "METER_SIGNING_KEY_FILE": str(folder / "keys.json"),
            "METER_ENCRYPTION_KEY": base64.b64encode(os.urandom(32)).decode(),
            "METER_HTTP_BIND": f"127.0.0.1:{port}",
            "METER_ADMIN_BIND": f"127.0.0.1:{admin}",
            "METER_LOG_LEVEL": "error",
        }
        real_service.meterctl(settings, "migrate")
        real_service.meterctl({}, "key", "generate", "--out", folder / "keys.json")
        made = real_service.meterctl(settings, "token", "create", "--name", "terraform", "--scope", "admin", "--json")
        process = real_service.spawn(folder, "metering-api", [], settings)
        url = f"http://127.0.0.1:{port}"
        real_service.wait(lambda: real_service.fetch(url + "/.well-known/jwks.json"), "metering-api")
        yield API(url, json.loads(made)["token"], settings)
    finally:
        if process:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
        real_service.run([psql, database_url, "-qc", f"drop database if exists {database} with (force)"])


class Workspace:
    """A folder with a configuration, and its state."""

    def __init__(self, terraform, folder, provider, api):
        self.terraform, self.folder, self.provider, self.api = terraform, folder, provider, api
        folder.mkdir()
        (folder / "terraform.rc").write_text(
            f'provider_installation {{\n  dev_overrides {{ "{SOURCE}" = "{provider}" }}\n  direct {{}}\n}}\n'
        )
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("METER_", "TF_", "PLUGIN_"))}
        self.log = folder / "terraform.log"
        self.environment = {
            **kept, "TF_CLI_CONFIG_FILE": str(folder / "terraform.rc"), "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1",
            "TF_LOG": "TRACE", "TF_LOG_PATH": str(self.log),
            "METER_API_URL": api.url, "METER_API_TOKEN": api.token,
        }  # fmt: skip
        self.outputs = ""

    def beside(self, name):
        return Workspace(self.terraform, self.folder.with_name(f"{self.folder.name}-{name}"), self.provider, self.api)

    def write(self, text):
        (self.folder / "main.tf").write_text(HEAD + text)

    def run(self, *arguments, status=0, **environment):
        command = [self.terraform, *arguments]
        if arguments[0] != "state":
            command.insert(2, "-no-color")
        done = subprocess.run(
            command, cwd=self.folder, env={**self.environment, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, timeout=120,
        )  # fmt: skip
        if done.returncode != status:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}, not {status}:\n{done.stdout}")
        self.outputs += done.stdout
        # Boxes and line breaks are Terraform's; the words are what counts.
        return re.sub(r"[\s│╷╵]+", " ", done.stdout)

    def apply(self, text=None, **options):
        if text is not None:
            self.write(text)
        return self.run("apply", "-auto-approve", "-input=false", **options)

    def changes(self, **environment):
        """What a plan would do: actions by address. The plan itself is in plan.out."""
        output = self.run("plan", "-input=false", "-out=plan.out", **environment)
        return dict(re.findall(r"# (\S+) (?:will be|must be) (created|updated in-place|replaced|destroyed)", output))

    def state(self, address):
        *_, kind, name = address.split(".")
        for resource in json.loads((self.folder / "terraform.tfstate").read_text())["resources"]:
            if (resource["type"], resource["name"]) == (kind, name):
                return resource["instances"][0]["attributes"]
        raise SystemExit(f"{address} is not in the state")


def expect(actual, wanted, what):
    if actual != wanted:
        raise SystemExit(f"{what}: {actual!r}, not {wanted!r}")


def expect_in(part, text, what):
    if part not in text:
        raise SystemExit(f"{what}: {part!r} is not in:\n{text}")


def stack(
    name, plan="professional", limits="{ api_calls = 50000, seats = 10 }", more="", domains='["*.Example.com", "bücher.example"]'
):
    return f"""
resource "licensemetering_customer" "acme" {{
  customer_id = "cus_{name}"
  name        = "Acme"
}}

resource "licensemetering_license" "main" {{
  license_id  = "lic_{name}"
  customer_id = licensemetering_customer.acme.customer_id
  plan        = "{plan}"
  domains     = {domains}
  features    = ["export", "analytics"]
  limits      = {limits}
  issued_at   = "2026-01-01T00:00:00+01:00"
  expires_at  = "2999-12-31T00:00:00Z"
  {more}
}}

resource "licensemetering_webhook_endpoint" "alerts" {{
  url         = "https://example.com"
  customer_id = licensemetering_customer.acme.customer_id
  events      = ["license.limit_exceeded", "license.expiring"]
}}

resource "licensemetering_api_token" "usage" {{
  name        = "usage of ${{licensemetering_webhook_endpoint.alerts.endpoint_id}}"
  scopes      = ["usage:write", "usage:read"]
  customer_id = licensemetering_customer.acme.customer_id
  expires_in  = "48h"
}}

data "licensemetering_usage_current" "main" {{
  license_id = licensemetering_license.main.license_id
}}

data "licensemetering_jwks" "keys" {{}}

output "used" {{
  value = [for m in data.licensemetering_usage_current.main.meters : m.used]
}}

output "key" {{
  value = data.licensemetering_jwks.keys.keys[0].kid
}}

output "token" {{
  value     = licensemetering_api_token.usage.token
  sensitive = true
}}
"""


LICENSE, CUSTOMER = "licensemetering_license.main", "licensemetering_customer.acme"
ENDPOINT, TOKEN = "licensemetering_webhook_endpoint.alerts", "licensemetering_api_token.usage"


def life(space, name):
    """Apply, no drift, changes in place and by replacement."""
    api = space.api
    space.write(stack(name))
    expect(space.changes(), dict.fromkeys((CUSTOMER, LICENSE, ENDPOINT, TOKEN), "created"), "the first plan")
    space.apply()
    expect(space.changes(), {}, "a plan without drift")
    license = api.ask("GET", f"/v1/licenses/lic_{name}")
    expect(license["limits"], {"apiCalls": 50000, "seats": 10}, "the limits that were made")
    expect(sorted(license["domains"]), ["*.example.com", "xn--bcher-kva.example"], "the domains that were made")
    state = space.state(LICENSE)
    expect(sorted(state["domains"]), ["*.Example.com", "bücher.example"], "the domains as they were written")
    secret, token = space.state(ENDPOINT)["secret"], space.state(TOKEN)["token"]
    expect((secret[:6], token[:4]), ("whsec_", "mtr_"), "the secrets")
    expect(space.state("data.licensemetering_usage_current.main")["customer_id"], f"cus_{name}", "the current usage")
    expect(len(space.run("output", "key").split()), 1, "the key")

    # In place: what is not named is removed.
    changed = stack(name, plan="enterprise", limits="{ api_calls = 60000 }").replace(
        'name        = "Acme"', 'name = "Acme & Söhne"'
    )
    changed = changed.replace('"license.limit_exceeded", ', "").replace(
        'url         = "https://example.com"', 'url = "https://example.com/hooks"\n  secret_version = 2\n  status = "disabled"'
    )
    space.write(changed)
    expect(
        space.changes(),
        {CUSTOMER: "updated in-place", LICENSE: "updated in-place", ENDPOINT: "updated in-place"},
        "a change in place",
    )
    space.apply()
    expect(space.changes(), {}, "a plan after the change")
    license = api.ask("GET", f"/v1/licenses/lic_{name}")
    expect((license["plan"], license["limits"]), ("enterprise", {"apiCalls": 60000}), "the license that was changed")
    endpoint = api.ask("GET", "/v1/webhook-endpoints/" + space.state(ENDPOINT)["endpoint_id"])
    expect((endpoint["events"], endpoint["status"]), (["license.expiring"], "disabled"), "the endpoint that was changed")
    expect(api.ask("GET", f"/v1/customers/cus_{name}")["name"], "Acme & Söhne", "the customer that was changed")
    rotated = space.state(ENDPOINT)["secret"]
    expect(rotated.startswith("whsec_") and rotated != secret, True, "the rotated secret")

    # By replacement, with what depends on it.
    space.apply(changed.replace('expires_in  = "48h"', 'expires_in  = "2d"'))
    expect(space.state(TOKEN)["token"], token, "the same span in other words")
    old = space.state(TOKEN)["token_id"]
    space.write(changed.replace('expires_in  = "48h"', 'expires_in  = "30d"'))
    expect(space.changes(), {TOKEN: "replaced"}, "a change that replaces")
    space.apply()
    expect(api.ask("GET", "/v1/tokens/" + old)["revoked_at"] is not None, True, "the token that was replaced")
    space.apply(stack(name))
    return [secret, rotated, token, space.state(TOKEN)["token"]]


def drift(space, name):
    """What others change is shown and set right; what they delete is planned again."""
    api = space.api
    api.meterctl("license", "suspend", f"lic_{name}")
    expect(space.changes(), {}, "a suspension, where the configuration has no status")
    expect_in("suspended", space.run("apply", "-refresh-only", "-auto-approve"), "the suspension that somebody made")
    expect(space.state(LICENSE)["status"], "suspended", "the status")
    api.ask(
        "PATCH",
        f"/v1/licenses/lic_{name}",
        {"plan": "starter", "limits": {"apiCalls": 1, "exports": 5}, "domains": ["other.example"]},
    )
    expect(space.changes(), {LICENSE: "updated in-place"}, "a license that somebody changed")
    # Between the plan and its execution somebody changes it once more.
    api.ask("PATCH", f"/v1/licenses/lic_{name}", {"plan": "trial"})
    output = space.run("apply", "-input=false", "plan.out", status=1)
    expect_in("HTTP 412 changed_meanwhile: The license has changed since it was read", output, "a plan that is out of date")
    space.apply(stack(name, more='status = "active"'))
    license = api.ask("GET", f"/v1/licenses/lic_{name}")
    expect((license["plan"], license["status"], license["limits"]),
           ("professional", "active", {"apiCalls": 50000, "seats": 10}), "the license that was set right")  # fmt: skip
    expect(space.changes(), {}, "a plan after it was set right")

    api.ask("DELETE", "/v1/tokens/" + space.state(TOKEN)["token_id"])
    api.ask("DELETE", "/v1/webhook-endpoints/" + space.state(ENDPOINT)["endpoint_id"])
    expect(space.changes(), {ENDPOINT: "created", TOKEN: "created"}, "what was deleted outside")
    space.apply()
    expect(space.changes(), {}, "a plan after it was made again")


def imports(space, name):
    """What is there already comes under Terraform's care, without a change."""
    ids = {
        CUSTOMER: f"cus_{name}",
        LICENSE: f"lic_{name}",
        ENDPOINT: space.state(ENDPOINT)["endpoint_id"],
        TOKEN: space.state(TOKEN)["token_id"],
    }
    space.run("state", "rm", *ids)
    output = space.apply(status=1)
    expect_in("HTTP 409 customer_exists: There is already a customer with this id", output, "a customer that is there")
    expect_in("import it by its id: terraform import", output, "the way out")
    space.write(stack(name, domains='["*.example.com", "xn--bcher-kva.example"]', more='status = "active"'))
    for address, id in ids.items():
        space.run("import", address, id)
    expect(space.changes(), {}, "a plan after the import")
    expect((space.state(ENDPOINT)["secret"], space.state(TOKEN)["token"]), (None, None), "secrets after an import")
    output = space.run("import", "licensemetering_license.other", "lic_nobody", status=1)
    expect_in("does not exist", output, "an import of nothing")


def errors(space, name):
    """What is wrong is said where it stands, in the API's words."""
    wrong = stack(name, limits="{ api_calls = -1 }", more='status = "paused"\n  billing_anchor_day = 32').replace('"48h"', '"48"')
    space.write(wrong.replace("2999-12-31T00:00:00Z", "tomorrow"))
    output = space.run("validate", status=1)
    for part in (
        'status = "paused"', "It must be one of active, suspended, canceled", "billing_anchor_day = 32",
        "It must be an integer from 1 to 31",
        'expires_at = "tomorrow"', "It must be a time by RFC 3339", "limits = { api_calls = -1 }", 'expires_in = "48"',
    ):  # fmt: skip
        expect_in(part, output, "a configuration that is wrong")
    space.write(stack(name, domains='["co.uk"]', more='status = "active"'))
    output = space.apply(status=1)
    expect_in('domains = ["co.uk"]', output, "where the API's error belongs")
    expect_in(f"Changing the license lic_{name} failed", output, "what failed")
    expect_in("HTTP 400", output, "the API's error")
    expect_in("Request ", output, "the request's id")
    space.write(stack(name).replace('"usage:write"', '"usage:everything"'))
    expect_in("must be one or more of", space.apply(status=1), "the API's words")
    space.apply(stack(name))
    space.write(stack(name) + 'data "licensemetering_usage_current" "none" {\n  license_id = "lic_nobody"\n}\n')
    output = space.run("plan", status=1)
    expect_in("HTTP 404 not_found", output, "a license that is not there")
    expect_in('license_id = "lic_nobody"', output, "where it is named")
    space.write(stack(name))
    output = space.run("plan", status=1, METER_API_TOKEN="mtr_wrong")
    expect_in("HTTP 401 unauthorized", output, "a token that does not hold")
    expect_in("METER_API_URL", space.run("plan", status=1, METER_API_URL=""), "no URL")
    output = space.run("plan", status=1, METER_API_URL="http://127.0.0.1:1")
    expect_in("connection refused", output, "a service that is not there")
    space.write(stack(name) + 'provider "licensemetering" {\n  url = "metering"\n}\n')
    expect_in("It must be an absolute URL", space.run("validate", status=1), "a URL that is none")


def unknowns(space, name):
    """Values that are known after the apply alone, and arguments that have a default."""
    space = space.beside("unknown")
    text = f"""
resource "licensemetering_customer" "c" {{
  customer_id        = "cus_{name}_unknown"
  stripe_customer_id = "cus_stripe"
}}
resource "licensemetering_license" "l" {{
  license_id         = "lic_{name}_${{licensemetering_webhook_endpoint.e.endpoint_id}}"
  customer_id        = licensemetering_customer.c.customer_id
  plan               = licensemetering_customer.c.created_at
  domains            = ["${{licensemetering_webhook_endpoint.e.endpoint_id}}.example.com", "example.com"]
  limits             = {{ seats = length(licensemetering_customer.c.created_at), exports = null }}
  status             = "suspended"
  trial              = true
  overage_policy     = "allow"
  alert_thresholds   = [100, 50]
  billing_anchor_day = 31
  expires_at         = "2999-01-01T00:00:00Z"
  on_destroy         = "suspend"
}}
resource "licensemetering_webhook_endpoint" "e" {{
  url     = "https://example.com/${{licensemetering_customer.c.created_at}}"
  signing = "v1a"
  status  = "disabled"
}}
"""
    space.apply(text)
    expect(space.changes(), {}, "a plan after unknown values")
    id = space.state("licensemetering_license.l")["license_id"]
    license = space.api.ask("GET", "/v1/licenses/" + id)
    expect(
        [license[key] for key in ("status", "trial", "overage_policy", "alert_thresholds", "billing_anchor_day")],
        ["suspended", True, "allow", [50, 100], 31], "a license with all arguments",
    )  # fmt: skip
    space.apply(
        text.replace("[100, 50]", "[]")
        .replace("= 31", "= 15")
        .replace('"cus_stripe"', "null")
        .replace('status             = "suspended"', "")
    )
    made = space.api.meterctl(
        "token", "create", "--name", "plans", "--scope", "licenses:read", "--scope", "webhooks:read", "--json"
    )
    reader = json.loads(made)["token"]
    expect(space.changes(METER_API_TOKEN=reader), {}, "a plan after a change, with a token that only reads")
    expect(space.api.ask("GET", "/v1/licenses/" + id)["status"], "suspended", "what is no longer named is left alone")
    expect(
        space.api.ask("GET", f"/v1/customers/cus_{name}_unknown")["stripe_customer_id"],
        None,
        "what is no longer named is removed",
    )
    expect_in(
        "HTTP 403",
        space.run("destroy", "-auto-approve", status=1, METER_API_TOKEN=reader),
        "a change with a token that only reads",
    )
    space.run("destroy", "-auto-approve")
    expect(space.api.ask("GET", "/v1/licenses/" + id)["status"], "suspended", "a license that is suspended at its end")


def endings(space, name):
    """Destroying: a license is canceled, a customer stays, the others are deleted."""
    space.apply(stack(name))
    endpoint, token = space.state(ENDPOINT)["endpoint_id"], space.state(TOKEN)["token_id"]
    api = space.api
    space.run("destroy", "-auto-approve")
    expect(api.ask("GET", f"/v1/licenses/lic_{name}")["status"], "canceled", "the license after its end")
    expect(api.ask("GET", f"/v1/customers/cus_{name}")["name"], "Acme", "the customer after its end")
    expect(api.ask("GET", f"/v1/tokens/{token}")["revoked_at"] is not None, True, "the token after its end")
    expect([e for e in api.ask("GET", "/v1/webhook-endpoints")["data"] if e["endpoint_id"] == endpoint], [], "endpoints")
    space.run("import", CUSTOMER, f"cus_{name}")
    space.write(stack(name, more='status = "active"'))
    output = space.apply(status=1)
    expect_in("HTTP 409 license_exists", output, "a canceled license's id")
    expect_in("a canceled license stays canceled", output, "the way out")
    space.run("import", LICENSE, f"lic_{name}")
    output = space.run("plan", status=1)
    expect_in("which cannot be undone", output, "a license that somebody canceled")
    space.apply(stack(name))
    space.run("destroy", "-auto-approve")


def first_result(space, name):
    """The example of the README, with a release where the README puts it."""
    space = space.beside("first")
    home = space.folder / "home"
    plugins = home / ".terraform.d/plugins" / SOURCE
    platform = real_service.run(["go", "env", "GOOS", "GOARCH"]).replace("\n", "_").strip("_")
    real_service.run([HERE / "release", plugins, platform])
    sums = real_service.run(["env", "-C", plugins, "sha256sum", "--check", *plugins.glob("*SHA256SUMS")])
    expect(sums.count(": OK"), 2, "the release's checksums")
    shutil.copy(HERE / "examples/main.tf", space.folder)
    own = {"HOME": str(home), "TF_CLI_CONFIG_FILE": ""}
    space.run("init", "-input=false", **own)
    space.run("apply", "-auto-approve", "-input=false", **own)
    expect(space.api.ask("GET", "/v1/licenses/lic_acme")["plan"], "professional", "the example's license")
    output = space.run("plan", "-detailed-exitcode", **own)
    expect_in("No changes", output, "the example's second plan")


def secrets(space, secrets):
    """What is secret stands in the state alone. From here on nothing is logged, which is quicker."""
    log = space.log.read_text(errors="replace")
    if "/v1/licenses" not in log:
        raise SystemExit("the log of Terraform does not hold the provider's lines")
    for secret in [*secrets, space.api.token]:
        for text, where in ((log, "the log"), (space.outputs, "what Terraform printed")):
            if secret in text:
                raise SystemExit(f"a secret stands in {where}")
    del space.environment["TF_LOG"], space.environment["TF_LOG_PATH"]


def main():
    provider, programs = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:]
    with (
        tempfile.TemporaryDirectory(prefix="terraform") as folder,
        started(pathlib.Path(folder), os.environ["METER_TEST_DATABASE_URL"]) as api,
    ):
        for number, program in enumerate(programs):
            space = Workspace(program, pathlib.Path(folder) / f"space{number}", provider, api)
            name = f"t{number}"
            version = space.run("version").split()[1]
            made = life(space, name)
            secrets(space, made)
            # A further version shows that it speaks the same protocol; all scenarios would take too long.
            scenarios = (drift, imports, errors, unknowns, first_result, endings) if number == 0 else ()
            for scenario in scenarios:
                scenario(space, name)
            print(f"terraform {version}: scenarios passed: {', '.join(s.__name__ for s in (life, *scenarios))}")


main()
