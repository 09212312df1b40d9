import Testing

@testable import LicenseClient

/// Cases that the conformance runner, which drives all SDKs, does not cover.
struct ServiceAddressTests {
  @Test(
    "A service's address is split into its parts",
    arguments: [
      ("https://licenses.example.com", "licenses.example.com", 443, ""),
      ("HTTPS://Licenses.Example.com:8443/base//", "licenses.example.com", 8_443, "/base"),
      ("https://[2001:db8::1]:444/a/b", "2001:db8::1", 444, "/a/b"),
      ("http://127.0.0.1:8080/", "127.0.0.1", 8_080, ""), ("http://localhost", "localhost", 80, ""),
      ("http://[::1]", "::1", 80, ""),
    ])
  func parts(_ url: String, _ host: String, _ port: Int, _ path: String) throws {
    let address = try ServiceAddress(url)
    #expect(address.host == host && address.port == port && address.basePath == path)
    #expect(address.isTLS == url.lowercased().hasPrefix("https"))
  }

  @Test(
    "An address that two readers could read differently, or that is not safe, is refused",
    arguments: [
      "", "licenses.example.com", "ftp://localhost", "https://", "https://:443", "https://a:0",
      "https://a:65536", "https://a:+80", "https://a:", "https://user@a", "https://a?b",
      "https://a#b",
      "https://a b", "https://a\r\nHost: b", "https://a\\b", "https://[::1", "https://[1.2.3.4]",
      "https://é.example", "http://licenses.example.com", "http://127.0.0.1.example.com",
      "http://10.0.0.1",
    ])
  func refused(_ url: String) {
    #expect(throws: LicenseClientOptions.Invalid.self) { try ServiceAddress(url) }
  }

  @Test("A host named by a proxy is believed only if the proxy is trusted, also by IPv6 address")
  func forwardedHost() throws {
    let host = try RequestHost(domain: nil, trustedProxies: ["10.0.0.0/8", "2001:db8::1"])
    func domain(_ peer: String?, _ forwarded: [String]) -> String {
      host.domain(peer: peer, host: "own.example", forwarded: forwarded)
    }
    #expect(domain("::ffff:10.1.2.3", ["shop.example"]) == "shop.example")
    #expect(domain("2001:db8::1", ["evil.example", "a.example, shop.example "]) == "shop.example")
    #expect(domain("2001:db8::2", ["shop.example"]) == "own.example")
    #expect(domain(nil, ["shop.example"]) == "own.example")
    #expect(domain("10.1.2.3", []) == "own.example")
    #expect(domain("10.1.2.3", [""]) == "own.example")
    #expect(throws: LicenseClientOptions.Invalid.self) {
      try RequestHost(domain: nil, trustedProxies: ["10.0.0.0/40"])
    }
  }
}
