# frozen_string_literal: true

module LicenseMetering
  VERSION = "0.1.0"
end
