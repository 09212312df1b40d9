import DomainNames
import Foundation
import Licensing
import MeteringTestKit
import Testing

@testable import LicenseClient

struct VerdictFolderTests {
  private static func entry(_ code: Verdict.Code, at time: Int64) throws -> VerdictCache.Entry {
    let isValid = code == .valid
    let payload = """
      {"valid":\(isValid),"code":"\(code.rawValue)","timestamp":"2026-11-27T00:00:00.000Z"}
      """
    var verdict = try #require(SignedVerdict(payload: Array(payload.utf8)))
    verdict.timestamp = time
    return .init(verdict: verdict, signature: "signature-\(time)", received: time)
  }

  private static func key(_ license: String, _ domain: String) throws -> VerdictCache.Key {
    let rules = try #require(PublicSuffixList.shared)
    return .init(licenseKey: license, domain: try #require(DomainName(domain, rules: rules)))
  }

  @Test(
    "Names that were never valid leave no file, and a license's end removes its old files"
  )
  func files() throws {
    let path = NSTemporaryDirectory() + "verdicts-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: path) }  // The system clears it too.
    let folder = VerdictFolder(path: path)
    func names() throws -> Int {
      try FileManager.default.contentsOfDirectory(atPath: path).filter { $0.contains("-") }.count
    }
    let (a, b) = (try Self.key("lic_1", "a.example"), try Self.key("lic_1", "b.example"))
    let other = try Self.key("lic_2", "a.example")
    for (i, key) in [a, b, other].enumerated() {
      try folder.save(Self.entry(.valid, at: Int64(i)), key, isLatest: true)
    }
    for number in 0..<20 {
      try folder.save(
        Self.entry(.domainMismatch, at: 10), Self.key("lic_1", "no\(number).example"),
        isLatest: true)
    }
    #expect(try names() == 3)
    #expect(folder.read(VerdictFolder.name(a))?.signature == "signature-0")
    #expect(folder.read(VerdictFolder.latestFile)?.signature == "signature-10")
    try folder.save(Self.entry(.canceled, at: 11), a, isLatest: false)
    #expect(try names() == 2)
    #expect(folder.read(VerdictFolder.name(a))?.signature == "signature-11")
    #expect(folder.read(VerdictFolder.name(b)) == nil)
    #expect(folder.read(VerdictFolder.name(other))?.signature == "signature-2")
    #expect(folder.read(VerdictFolder.latestFile)?.signature == "signature-10")
  }

  @Test("Memory and disk hold a limited number of verdicts")
  func bounded() async throws {
    let path = NSTemporaryDirectory() + "verdicts-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: path) }  // The system clears it too.
    let cache = VerdictCache(
      folder: VerdictFolder(path: path, maximumEntries: 20), keys: nil, maximumEntries: 20)
    let first = try Self.key("lic_1", "n0.example")
    for number in 0...20 {
      await cache.put(
        try Self.entry(.valid, at: Int64(number)), try Self.key("lic_1", "n\(number).example"))
    }
    #expect(cache.get(first) == nil)
    #expect(cache.get(try Self.key("lic_1", "n1.example")) != nil)
    let files = try FileManager.default.contentsOfDirectory(atPath: path)
    #expect(files.filter { $0.contains("-") }.count == 20)
    #expect(files.allSatisfy { !$0.contains("lic_1") })
  }
}
