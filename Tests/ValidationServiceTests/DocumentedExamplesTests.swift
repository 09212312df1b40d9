import Foundation
import Licensing
import Metering
import MeteringTestKit
import Testing

/// A page of docs/ with named blocks: `<!-- check: offline -->`.
enum Page {
  static func block(_ name: String, of page: String) throws -> String {
    let text = try String(contentsOfFile: "docs/\(page)", encoding: .utf8)
    let parts = text.components(separatedBy: "\(name) -->\n```")
    let block = try #require(parts.count == 2 ? parts[1] : nil)
    return block.components(separatedBy: "\n```")[0].split(
      separator: "\n", omittingEmptySubsequences: false
    )
    .dropFirst().joined(separator: "\n") + "\n"
  }
}

/// Compiles the Swift examples of docs/embedding.md as another package would, with only the public
/// API.
struct EmbeddingPageTests {
  @Test(
    "The Swift examples compile against the libraries", arguments: ["publish", "offline", "client"])
  func compiles(_ name: String) throws {
    let folder = NSTemporaryDirectory() + "example-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }  // The system clears it too.
    let file = folder + "/example.swift"
    try Page.block("check: \(name)", of: "embedding.md").write(
      toFile: file, atomically: true, encoding: .utf8)
    let compiler = try ChildProcess(
      "/usr/bin/env",
      ["swiftc", "-typecheck", "-swift-version", "6"] + Self.modules() + [file])
    #expect(compiler.wait() == 0, "\(compiler.output)")
  }
}

extension EmbeddingPageTests {
  /// The arguments with which the compiler finds the modules of the libraries, including those of
  /// C.
  fileprivate static func modules() throws -> [String] {
    let products = ChildProcess.productsFolder
    let generated = try FileManager.default.contentsOfDirectory(atPath: products)
      .map { "\(products)/\($0)/module.modulemap" }
      .filter(FileManager.default.fileExists)
    let own = ["CLibPSL", "CLibIDN2", "CRdKafka", "CChecksum/include"].map { "Sources/IO/\($0)" }
    var dependencies: [String] = []
    for package in try FileManager.default.contentsOfDirectory(atPath: ".build/checkouts") {
      let sources = ".build/checkouts/\(package)/Sources"
      // A package without such a folder has no C module.
      for target in (try? FileManager.default.contentsOfDirectory(atPath: sources)) ?? [] {
        let include = "\(sources)/\(target)/include"
        if FileManager.default.fileExists(atPath: include + "/module.modulemap") {
          dependencies.append(include)
        }
      }
    }
    return ["-I", products + "/Modules"]
      + generated.flatMap { ["-Xcc", "-fmodule-map-file=\($0)"] }
      + (own + dependencies).flatMap { ["-I", $0] }
  }
}

/// A Python that has PyJWT. If it is nil, the test is skipped.
enum PyJWT {
  static let python: String? = {
    let given = ProcessInfo.processInfo.environment["METER_TEST_PYTHON"] ?? ""
    return [given, "/usr/bin/python3"].first { python in
      FileManager.default.isExecutableFile(atPath: python)
        && (try? ChildProcess(python, ["-c", "import jwt, cryptography"]))?.wait() == 0
    }
  }()
}

/// The Python example of docs/verification.md, exactly as printed there.
struct VerificationPageTests {
  private static let driver = """

    import os
    keys, license, now = json.loads(os.environ["KEYS"]), os.environ["LICENSE"], float(os.environ["NOW"])
    answer = json.loads(os.environ["ANSWER"])
    day = 86_400

    def refused(call):
        try:
            call()
        except (Refused, jwt.PyJWTError):
            return True
        return False

    # The license holds from a day ago for ten days.
    for host, at, expected in [
        ("Example.com.:443", now, "valid"), ("deep.www.example.org", now, "valid"),
        ("example.org", now, "domain_mismatch"), ("www.example.com", now, "domain_mismatch"),
        ("localhost", now, "domain_mismatch"), ("127.0.0.1:80", now, "domain_mismatch"),
        ("example.com", now - 2 * day, "not_yet_valid"), ("example.com", now + 11 * day, "grace"),
        ("example.com", now + 18 * day, "expired"), ("[2001:db8::1]:443", now, "valid"),
    ]:
        assert judge_license(license, keys, host, at) == expected, (host, at)
    assert refused(lambda: judge_license(license[:-4] + "AAAA", keys, "example.com"))
    assert refused(lambda: judge_license(answer["signature"], keys, "example.com"))

    def check(key=license, host="Example.com:443", nonce="nonce-0123456789", now=None, answer=answer):
        return verified_answer(answer, keys, key, host, nonce, now)

    signed = check()
    assert signed["valid"] is True and signed["code"] == "valid"
    assert {**signed, "signature": answer["signature"]} == answer
    assert refused(lambda: check(key="lic_other"))
    assert refused(lambda: check(host="other.example.com"))
    assert refused(lambda: check(nonce="nonce-9876543210"))
    assert refused(lambda: check(now=time.time() + 400))
    assert refused(lambda: check(answer={**answer, "signature": license}))
    print("all is well")
    """

  @Test(
    "The Python example believes what is signed, and nothing changed or asked for by another",
    .enabled(if: PyJWT.python != nil))
  func python() throws {
    let setup = try Setup()
    let now = Int64(Date().timeIntervalSince1970 * 1_000)
    let day: Int64 = 86_400_000
    let license = try #require(
      LicenseSigner(keys: setup.keys)?.token(
        LicenseClaims(
          licenseID: "lic_signed",
          domains: ["example.com", "*.example.org", "2001:db8:0:0:0:0:0:1"],
          plan: "p", issuedAt: now - 2 * day, expiresAt: now + 10 * day, notBefore: now - day)))
    let answer = try setup.validate(
      license, "Example.com:443", extra: #","nonce":"nonce-0123456789""#)
    let program = try ChildProcess(
      try #require(PyJWT.python),
      ["-c", Page.block("run: verification", of: "verification.md") + Self.driver],
      environment: [
        "KEYS": setup.request("GET", "/.well-known/jwks.json").body, "LICENSE": license,
        "ANSWER": answer.body, "NOW": "\(now / 1_000)",
      ])
    #expect(program.wait() == 0, "\(program.output)")
    try eventually("all of its output is read") { program.outputEnded }
    #expect(program.output == "all is well\n")
  }
}
