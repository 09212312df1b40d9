# frozen_string_literal: true

# Licenses of License Metering, online and offline. Start with LicenseMetering::Client.
module LicenseMetering; end

require_relative "license_metering/client"
require_relative "license_metering/rack"
