# frozen_string_literal: true

require_relative "lib/license_metering/version"

Gem::Specification.new do |spec|
  spec.name = "license_metering"
  spec.version = LicenseMetering::VERSION
  spec.summary = "Validates licenses of License Metering, online and offline, and reports usage."
  spec.authors = ["License Metering"]
  spec.license = "Apache-2.0"
  spec.required_ruby_version = ">= 3.1"
  spec.files = Dir["lib/**/*", "README.md", "CHANGELOG.md"]
  # Part of Ruby until 3.4.
  spec.add_dependency "base64"
  spec.metadata["rubygems_mfa_required"] = "true"
end
