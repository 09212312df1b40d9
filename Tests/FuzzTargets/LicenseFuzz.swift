#if canImport(DomainNames)
  import DomainNames
  import Licensing
  import Metering

  /// Tokens, key sets and domain names.
  enum LicenseFuzz {
    static func run(_ target: FuzzTarget, _ bytes: [UInt8]) {
      let text = String(decoding: bytes, as: UTF8.self)
      switch target {
      case .token: token(text)
      case .keys: keys(bytes)
      default: domain(text)
      }
    }

    /// The key set of the corpus's token. It was made for that token and signs nothing else.
    private static let verifier: LicenseVerifier? = {
      let json = """
        {"keys":[{"kty":"OKP","crv":"Ed25519","kid":"fuzz","alg":"EdDSA","use":"sig","purpose":"license",\
        "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}
        """
      // Without the set every token is refused, which the corpus would show.
      return (try? JSONWebKeySet(json: Array(json.utf8))).map { LicenseVerifier(keys: $0) }
    }()

    /// Without the private key nobody can make a token that verifies.
    private static func token(_ text: String) {
      do throws(TokenRefusal) {
        guard let verifier else { return }
        let claims = try verifier.verify(text)
        precondition(claims.licenseID == "lic_fuzz", "a token verifies that nobody signed")
      } catch {
        return
      }
    }

    /// A set that was read, written out, reads as itself.
    private static func keys(_ bytes: [UInt8]) {
      do throws(JSONWebKey.Invalid) {
        let set = try JSONWebKeySet(json: bytes)
        let again = try JSONWebKeySet(json: set.privateJSON)
        precondition(again.keys.map(\.keyID) == set.keys.map(\.keyID))
      } catch {
        return
      }
    }

    /// A name that was normalized is normal, and a bound domain covers itself.
    private static func domain(_ text: String) {
      guard let rules = PublicSuffixList.shared, let name = DomainName(text, rules: rules) else {
        return
      }
      precondition(DomainName(name.description, rules: rules) == name)
      do throws(BoundDomains.Refusal) {
        let bound = try BoundDomains.normalized(text, rules: rules)
        let again = try BoundDomains.normalized(bound, rules: rules)
        precondition(again == bound)
      } catch {
        return
      }
    }
  }
#endif
