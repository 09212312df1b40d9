import CLibIDN2
import CLibPSL
public import Licensing

/// Mozilla's Public Suffix List from libpsl, and internationalized names from libidn2. It is made
/// once and can be used from every thread.
public final class PublicSuffixList: DomainNameRules, @unchecked Sendable {
  // libpsl only reads the list behind the pointer.
  private let list: OpaquePointer
  private let isOwned: Bool

  /// The newest list, which is read once. Nil if libpsl has none.
  public static let shared = PublicSuffixList()

  /// - Parameter file: a list in Mozilla's format. Nil stands for the newer one of the system's
  ///   list (Debian's `publicsuffix`) and the list that is built into libpsl.
  /// - Returns: nil if the file cannot be read, or if libpsl was built without a list.
  public init?(file: String? = nil) {
    if let file {
      guard let list = psl_load_file(file), psl_suffix_count(list) > 0 else { return nil }
      self.list = list
      isOwned = true
    } else if let list = psl_latest(nil) {
      self.list = list
      // The built-in list is not on the heap.
      isOwned = list != psl_builtin()
    } else {
      return nil
    }
  }

  deinit {
    if isOwned { psl_free(list) }
  }

  /// The name in ASCII by UTS #46, non-transitional.
  public func ascii(_ name: String) -> String? {
    Self.strictASCII(name) ?? SymbolNames(strict: Self.strictASCII).ascii(name)
  }

  /// The name in ASCII by libidn2. It refuses symbols, as IDNA2008 does.
  static func strictASCII(_ name: String) -> String? {
    var result: UnsafeMutablePointer<CChar>?
    // STD3 rules would refuse underscores, which some hosts have. `DomainName` checks the letters
    // itself.
    let flags = CInt(IDN2_NFC_INPUT.rawValue | IDN2_NONTRANSITIONAL.rawValue)
    guard !name.utf8.contains(0), idn2_to_ascii_8z(name, &result, flags) == CInt(IDN2_OK.rawValue),
      let result
    else { return nil }
    defer { idn2_free(result) }
    return String(cString: result)
  }

  /// Whether it is a public suffix by the list and its default rule.
  public func isPublicSuffix(_ name: String) -> Bool {
    psl_is_public_suffix(list, name) == 1
  }

  /// The public suffix with one more label.
  public func registrableDomain(_ name: String) -> String? {
    // The answer points into the text that is passed in.
    name.withCString { text in psl_registrable_domain(list, text).map { String(cString: $0) } }
  }
}
