import Metering
import MeteringTestKit
import Testing
import WebhookDelivery

@Suite struct TargetTests {
  @Test(
    "Addresses that are not the public internet are refused",
    arguments: [
      "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1",
      "127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1",
      "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7",
      "203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
      "168.63.129.16", "100.100.100.200", "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
      "::127.0.0.1", "::ffff:0:10.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe",
      "64:ff9b:1::1", "2002:7f00:1::", "2002:c0a8:101::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
      "2001:0:7f00:1::f7f7:f7f7", "fe80::1", "fec0::1", "fc00::1", "fd12:3456::1", "fd00:ec2::254",
      "ff02::1", "2001:db8::1", "3fff::1", "100::1", "2001:10::1", "2001:20::1", "2001:2::1",
      "5f00::1", "4000::1", "2a00:1450:4001:800:0:5efe:a00:1", "1::1",
    ])
  func refused(_ text: String) throws {
    let address = try #require(IPAddress(text))
    #expect(TargetAddressPolicy().refusal(address) != nil)
  }

  @Test(
    "Public addresses pass",
    arguments: [
      "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
      "126.255.255.255", "128.0.0.1", "172.15.255.255", "172.32.0.0", "192.167.255.255",
      "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2606:4700:4700::1111",
      "2a00:1450:4001:80b::200e", "64:ff9b::8.8.8.8", "2002:808:808::1",
    ])
  func passes(_ text: String) throws {
    let address = try #require(IPAddress(text))
    let refusal = TargetAddressPolicy().refusal(address)
    #expect(refusal == nil, "\(refusal ?? "")")
  }

  @Test("An allowed range opens what it names and nothing else, inside IPv6 too")
  func allowed() throws {
    let policy = try TargetAddressPolicy(cidrs: "10.1.0.0/16, ::1/128")
    func refusal(_ text: String) throws -> String? { policy.refusal(try #require(IPAddress(text))) }
    #expect(try refusal("10.1.2.3") == nil)
    #expect(try refusal("::1") == nil)
    #expect(try refusal("::ffff:10.1.2.3") == nil)
    #expect(try refusal("10.2.0.1") != nil)
    #expect(try refusal("127.0.0.1") != nil)
  }

  @Test("An answer that mixes public and private addresses is refused")
  func mixed() throws {
    let addresses = try ["8.8.8.8", "127.0.0.1"].map { try #require(IPAddress($0)) }
    #expect(TargetAddressPolicy().refusal(ofAny: addresses)?.address == addresses[1])
    #expect(TargetAddressPolicy().refusal(ofAny: [addresses[0]]) == nil)
  }

  @Test(
    "Texts that are not ranges are refused",
    arguments: [
      "10.0.0.0/33", "x", "10.0.0.0/", "10.0.0/8", "::/129", "10.0.0.0/8/8", "10.0.0.0/-1",
    ])
  func badRanges(_ text: String) {
    #expect(throws: TargetAddressPolicy.Invalid.self) { try TargetAddressPolicy(cidrs: text) }
  }

  @Test("Every address that is printed is read back as itself")
  func roundTrip() throws {
    var random = SeededRandom(of: "roundTrip")
    for _ in 0..<2_000 {
      let bytes = random.bytes(random.chance(50) ? 4 : 16)
      let address = try #require(IPAddress(bytes: bytes))
      #expect(IPAddress("\(address)") == address)
    }
  }

  @Test(
    "Texts that only some readers take for addresses are not addresses",
    arguments: [
      "127.1", "0177.0.0.1", "0x7f.0.0.1", "2130706433", "127.0.0.1.", "1.2.3.4.5", "1.2.3.256",
      "01.2.3.4", " 1.2.3.4", "1.2.3.+4", ":::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9",
      "12345::", "::g", "fe80::1%eth0", "::1.2.3", "1.2.3.4::", ":1:2:3:4:5:6:7", "::+1",
    ])
  func notAddresses(_ text: String) { #expect(IPAddress(text) == nil) }

  @Test(
    "URLs that could be read in two ways, or lead elsewhere, are refused",
    arguments: [
      ("ftp://example.com/", WebhookURL.Refusal.scheme), ("//example.com/", .scheme),
      ("example.com", .scheme), ("http://example.com/", .plainHTTP),
      ("https://user@example.com/", .userInfo), ("https://a:b@example.com/", .userInfo),
      ("https://8.8.8.8@127.0.0.1/", .userInfo), ("https://example.com\\@127.0.0.1/", .character),
      ("https://exa mple.com/", .character), ("https://example.com/\r\nx: y", .character),
      ("https://exämple.com/", .character), ("https://example.com/#x", .fragment),
      ("https:///x", .host), ("https://.example.com/", .host), ("https://a..b/", .host),
      ("https://%31%32%37.0.0.1/", .host), ("https://-a.com/", .host), ("https://[::1/", .host),
      ("https://[fe80::1%25eth0]/", .host), ("https://127.1/", .numericHost),
      ("https://2130706433/", .numericHost), ("https://0x7f000001/", .numericHost),
      ("https://0177.0.0.1/", .numericHost), ("https://0x7f.1/", .numericHost),
      ("https://127.0.0.1./", .numericHost), ("https://1.2.3.4.5/", .numericHost),
      ("https://example.com:22/", .port), ("https://example.com:0/", .port),
      ("https://example.com:65536/", .port), ("https://example.com:/", .port),
      ("https://example.com:+443/", .port), ("https://example.com:6667/", .port),
      ("https://127.0.0.1/", .address("loopback")),
      ("https://169.254.169.254/latest", .address("link-local (metadata)")),
      ("https://[::ffff:127.0.0.1]/", .address("loopback")), ("", .length),
    ])
  func badURLs(_ text: String, _ refusal: WebhookURL.Refusal) {
    #expect(throws: refusal) {
      try WebhookURL(text, policy: TargetAddressPolicy(), allowsHTTP: false)
    }
  }

  @Test("A URL is rebuilt from its parts")
  func goodURLs() throws {
    func url(_ text: String) throws -> String {
      "\(try WebhookURL(text, policy: TargetAddressPolicy(), allowsHTTP: true))"
    }
    #expect(try url("HTTPS://Example.COM.:443/A?b=C%20") == "https://example.com/A?b=C%20")
    #expect(try url("https://example.com?x") == "https://example.com/?x")
    let escaped = "https://example.com/x?sig=a%2Fb%3D&q=100%&%zz[]"
    #expect(try url(escaped) == escaped)
    #expect(try url("http://8.8.8.8:8080") == "http://8.8.8.8:8080/")
    #expect(
      try url("https://[2606:4700::1111]:8443/") == "https://[2606:4700:0:0:0:0:0:1111]:8443/")
  }
}
