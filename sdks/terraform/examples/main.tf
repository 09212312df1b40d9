terraform {
  required_providers {
    licensemetering = {
      source  = "license-metering.example/license-metering/licensemetering"
      version = "~> 0.1"
    }
  }
}

# The address and the token come from METER_API_URL and METER_API_TOKEN.
provider "licensemetering" {}

resource "licensemetering_customer" "acme" {
  customer_id = "cus_acme"
  name        = "Acme"
}

resource "licensemetering_license" "acme" {
  license_id       = "lic_acme"
  customer_id      = licensemetering_customer.acme.customer_id
  plan             = "professional"
  domains          = ["*.acme.example"]
  features         = ["analytics"]
  limits           = { api_calls = 50000, seats = 10 }
  alert_thresholds = [80, 100]
  expires_at       = "2030-12-31T00:00:00Z"
}

resource "licensemetering_webhook_endpoint" "acme" {
  url         = "https://acme.example/webhooks"
  customer_id = licensemetering_customer.acme.customer_id
  events      = ["license.limit_approaching", "license.limit_exceeded"]
}

resource "licensemetering_api_token" "reporting" {
  name        = "reporting"
  scopes      = ["usage:read"]
  customer_id = licensemetering_customer.acme.customer_id
  expires_in  = "90d"
}

data "licensemetering_usage_current" "acme" {
  license_id = licensemetering_license.acme.license_id
}

data "licensemetering_jwks" "keys" {}

output "used" {
  value = { for m in data.licensemetering_usage_current.acme.meters : m.meter => m.used }
}

output "webhook_secret" {
  value     = licensemetering_webhook_endpoint.acme.secret
  sensitive = true
}
