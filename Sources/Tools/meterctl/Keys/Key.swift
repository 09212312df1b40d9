import ArgumentParser
import Foundation
import Glibc
import Licensing

/// `meterctl key …`: manages the signing keys in the file that METER_SIGNING_KEY_FILE names, and
/// changes the encryption key.
struct Key: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Create, show and rotate signing keys; change the encryption key.",
    discussion: """
      A key set has keys for licenses and keys for verdicts. The first private key of each purpose \
      signs, and all keys verify. The file is a secret and has mode 0600. GET \
      /.well-known/jwks.json publishes its public half.
      """,
    subcommands: [Generate.self, List.self, Rotate.self, Export.self, KeyReseal.self])

  enum Algorithm: String, ExpressibleByArgument, CaseIterable {
    case edDSA = "EdDSA"
    case es256 = "ES256"

    var signing: SigningAlgorithm { self == .edDSA ? .edDSA : .es256 }
  }

  struct Generate: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Create a new set with one key for licenses and one for verdicts.",
      discussion: "Example: meterctl key generate --out keys.json")

    @Option(help: "The file to create. An existing file is never overwritten.")
    var out: String

    @Option(help: "EdDSA (Ed25519) or ES256 (P-256).")
    var algorithm = Algorithm.edDSA

    func run() throws {
      var keys = JSONWebKeySet()
      for purpose in JSONWebKey.Purpose.allCases { try keys.add(makeKey(algorithm, purpose)) }
      try KeyFile.write(keys, to: out, isNew: true)
      Terminal.error("\(out): a key for licenses and a key for verdicts; keep it secret")
    }
  }

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Show the keys of a set, without their secrets.",
      discussion: "Example: meterctl key list keys.json --json")

    @OptionGroup var set: KeyFile.Argument

    @OptionGroup var output: OutputOptions

    func run() throws {
      let keys = try KeyFile.read(set.path())
      for key in keys.skipped { Terminal.error("note: left out: \(key)") }
      let rows = keys.keys.map { key -> [(String, JSON)] in
        let signs = keys.signingKey(for: key.purpose)?.keyID == key.keyID
        return [
          ("kid", .text(key.keyID)), ("purpose", .text(key.purpose.rawValue)),
          ("algorithm", .text(key.algorithm.rawValue)), ("private", .boolean(key.isPrivate)),
          ("signs", .boolean(signs)),
        ]
      }
      output.print(
        .array(rows.map { .object($0) }),
        text: Terminal.table(
          ["kid", "purpose", "algorithm", "private", "signs"],
          rows.map { $0.map { text($0.1) } }))
    }

    private func text(_ value: JSON) -> String {
      switch value {
      case .text(let text): text
      case .boolean(let value): value ? "yes" : "no"
      default: value.compact
      }
    }
  }

  struct Rotate: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Add a new key that signs from now on. The old ones still verify.",
      discussion: """
        Services read the file when they start, so restart them afterwards.

        Example: meterctl key rotate keys.json --purpose verdict
        """)

    @OptionGroup var set: KeyFile.Argument

    @Option(help: "license or verdict (default: both).")
    var purpose: Purpose?

    @Option(help: "EdDSA (Ed25519) or ES256 (P-256).")
    var algorithm = Algorithm.edDSA

    enum Purpose: String, ExpressibleByArgument, CaseIterable {
      case license
      case verdict
    }

    func run() throws {
      let file = try set.path()
      var keys = try KeyFile.read(file)
      if let skipped = keys.skipped.first {
        throw Failure(
          "\(file) was not changed, because it would lose keys that this program does not know: \(skipped)"
        )
      }
      for one in JSONWebKey.Purpose.allCases
      where purpose == nil || purpose?.rawValue == one.rawValue {
        let key = try makeKey(algorithm, one)
        try keys.rotate(to: key)
        Terminal.error("\(one.rawValue): \(key.keyID) signs from now on")
      }
      try KeyFile.write(keys, to: file, isNew: false)
    }
  }

  struct Export: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Write the part of a set that a service needs.",
      discussion: """
        validation-service signs verdicts and only verifies licenses. Its file has the private \
        keys for verdicts and the public halves of the keys for licenses, so that somebody who \
        breaks into the service cannot make licenses.

        Example: meterctl key export keys.json --for validation-service --out online.json
        """)

    @Argument(help: "A key set's file.")
    var file: String

    @Option(name: .customLong("for"), help: "The service that reads it: validation-service.")
    var reader: Reader

    @Option(help: "The file to create. An existing file is never overwritten.")
    var out: String

    enum Reader: String, ExpressibleByArgument, CaseIterable {
      case validationService = "validation-service"
    }

    func run() throws {
      let exported = try Key.export(KeyFile.read(file))
      guard exported.signingKey(for: .verdict) != nil else {
        throw Failure("\(file) has no private key for verdicts; run: meterctl key rotate")
      }
      try KeyFile.write(exported, to: out, isNew: true)
      Terminal.error("\(out): verdicts are signed with it, licenses only verified; keep it secret")
    }
  }

  /// The part of a key set that `validation-service` needs.
  static func export(_ keys: JSONWebKeySet) throws -> JSONWebKeySet {
    var exported = JSONWebKeySet()
    for key in keys.keys {
      try exported.add(key.purpose == .verdict ? key : key.publicKey)
    }
    return exported
  }

  static func makeKey(_ algorithm: Algorithm, _ purpose: JSONWebKey.Purpose) throws -> JSONWebKey {
    guard let key = JSONWebKey.generate(algorithm.signing, for: purpose) else {
      throw Failure("keys of the kind \(algorithm.rawValue) can only verify, not sign")
    }
    return key
  }
}

/// A key set on disk.
enum KeyFile {
  struct Argument: ParsableArguments {
    @ArgumentParser.Argument(
      help: "A key set's file. Without it, the file that METER_SIGNING_KEY_FILE names.")
    var file: String?

    func path() throws -> String {
      if let file = file ?? ProcessInfo.processInfo.environment["METER_SIGNING_KEY_FILE"] {
        return file
      }
      throw ValidationError("name the key set's file, or set METER_SIGNING_KEY_FILE")
    }
  }

  static func read(_ path: String) throws -> JSONWebKeySet {
    guard let bytes = FileManager.default.contents(atPath: path) else {
      throw Failure("\(path) cannot be read; to create it: meterctl key generate --out \(path)")
    }
    do {
      return try JSONWebKeySet(json: bytes)
    } catch {
      throw Failure("\(path): \(error)")
    }
  }

  /// Writes the file entirely or not at all. Only its owner can read it.
  static func write(_ keys: JSONWebKeySet, to path: String, isNew: Bool) throws {
    let target = isNew ? path : path + ".new"
    let file = open(target, O_WRONLY | O_CREAT | (isNew ? O_EXCL : O_TRUNC), 0o600)
    guard file >= 0 else {
      throw Failure(
        errno == EEXIST
          ? "\(path) already exists and is not overwritten"
          : "\(path) cannot be written: \(String(cString: strerror(errno)))")
    }
    defer { close(file) }
    let bytes = keys.privateJSON + [0x0A]
    guard Glibc.write(file, bytes, bytes.count) == bytes.count, fsync(file) == 0,
      isNew || rename(target, path) == 0
    else {
      let why = String(cString: strerror(errno))
      unlink(target)
      throw Failure("\(path) cannot be written: \(why)")
    }
  }
}
