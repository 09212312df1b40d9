import Crypto
import FoundationEssentials
import NIOSSL

/// The public keys that the service's certificate may have, in addition to all checks of TLS.
struct ServicePins: Sendable {
  private let digests: Set<[UInt8]>
  private let mode: LicenseClientOptions.PinMode
  private let onProblem: @Sendable (String) -> Void

  /// - Throws: an error if a pin is malformed, or if there is only one pin. A new key of the
  ///   service would then lock every client out.
  init(_ options: LicenseClientOptions) throws(LicenseClientOptions.Invalid) {
    var digests: Set<[UInt8]> = []
    for pin in options.pins {
      guard pin.hasPrefix("sha256/"), let digest = Data(base64Encoded: String(pin.dropFirst(7))),
        digest.count == SHA256.byteCount
      else {
        throw .init("a pin must be sha256/ and the base64 of the SHA-256 of a public key (SPKI)")
      }
      digests.insert(Array(digest))
    }
    guard digests.count != 1 else {
      throw .init(
        "there must be at least two pins, and one of them must be for the service's next key")
    }
    self.digests = digests
    mode = options.pinMode
    onProblem = options.onProblem
  }

  var isEmpty: Bool { digests.isEmpty }

  /// - Parameter certificate: the service's certificate, or nil if there is none.
  /// - Throws: `NoAnswer.pinMismatch` if no key is pinned and pins are enforced.
  func check(_ certificate: NIOSSLCertificate?) throws(NoAnswer) {
    guard !isEmpty else { return }
    // A key that cannot be read is not pinned.
    if let key = try? certificate?.extractPublicKey().toSPKIBytes(),
      digests.contains(Array(SHA256.hash(data: key)))
    {
      return
    }
    onProblem("pin_mismatch")
    if mode == .enforce { throw .pinMismatch }
  }
}
