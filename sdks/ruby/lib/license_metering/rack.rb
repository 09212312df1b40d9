# frozen_string_literal: true

require "ipaddr"
require "json"

module LicenseMetering
  # Rack middleware: lets requests through where the license holds, and puts the Result into env["license_metering.license"].
  class Rack
    KEY = "license_metering.license"

    # domain:: what to ask about; else it is the request's host.
    # trusted_proxies:: addresses and ranges whose X-Forwarded-Host is believed.
    # on_denied:: called with the environment and the result, gives the response in place of 403 or 503.
    def initialize(app, client:, domain: nil, trusted_proxies: [], on_denied: nil)
      @app = app
      @client = client
      @domain = domain
      @proxies = trusted_proxies.map { |proxy| IPAddr.new(proxy) }
      @on_denied = on_denied
    end

    def call(env)
      result = @client.validate(host(env))
      env[KEY] = result
      return @app.call(env) if result.valid
      return @on_denied.call(env, result) if @on_denied

      refuse(result)
    end

    private

    def host(env)
      return @domain if @domain

      forwarded = env["HTTP_X_FORWARDED_HOST"].to_s
      # The last is the trusted proxy's own; what stands before may be the client's.
      return forwarded.split(",").last.to_s.strip if !forwarded.empty? && trusted?(env["REMOTE_ADDR"])

      env["HTTP_HOST"] || env["SERVER_NAME"].to_s
    end

    def trusted?(peer)
      address = IPAddr.new(peer.to_s).native
      @proxies.any? { |proxy| proxy.family == address.family && proxy.include?(address) }
    rescue IPAddr::Error
      false
    end

    def refuse(result)
      status = result.code == "unreachable" ? 503 : 403
      problem = {
        type: "about:blank", title: status == 503 ? "Service Unavailable" : "Forbidden", status:,
        code: result.code, detail: result.explanation || "The license is not valid."
      }
      [status, { "content-type" => "application/problem+json" }, [JSON.generate(problem)]]
    end
  end
end
