import JSONText
import Licensing

/// The questions of the vectors, which need neither network nor clock.
extension Driver {
  func keySet(_ question: Question) -> [UInt8] {
    do {
      let keys = try JSONWebKeySet(json: question.text("set").utf8).keys
      return JSON.object {
        $0.member(
          "keys",
          keys.map { "\($0.keyID) \($0.algorithm.rawValue) \($0.purpose.rawValue)" })
      }
    } catch {
      return JSON.object { $0.member("invalid", true) }
    }
  }

  func license(_ question: Question) -> [UInt8] {
    do throws(TokenRefusal) {
      let claims = try LicenseVerifier(keys: keys(question)).verify(question.text("token"))
      return JSON.object { json in
        json.name("claims")
        json.raw(JSON.claims(claims))
      }
    } catch {
      return JSON.refusal(error)
    }
  }

  func verdict(_ question: Question) -> [UInt8] {
    let asked = VerdictQuestion(
      licenseKey: question.text("licenseKey"),
      domain: DomainName(question.text("domain"), rules: rules), nonce: question.text("nonce"))
    do throws(VerdictVerifier.Refusal) {
      _ = try VerdictVerifier(keys: keys(question)).verify(
        signature: question.text("token"), question: asked, now: question.integer("now") ?? 0)
      return JSON.empty
    } catch {
      return switch error {
      case .token(let refusal): JSON.refusal(refusal)
      case .otherNonce: JSON.object { $0.member("refusal", "other_nonce") }
      case .otherQuestion: JSON.object { $0.member("refusal", "other_question") }
      case .stale: JSON.object { $0.member("refusal", "stale") }
      }
    }
  }

  func domain(_ question: Question) -> [UInt8] {
    let name = DomainName(question.text("text"), rules: rules)
    return JSON.object { json in
      json.name("name")
      if let name { json.text(name.description) } else { json.null() }
      json.member("local", name?.isLocal ?? false)
    }
  }

  func covers(_ question: Question) -> [UInt8] {
    let name = DomainName(question.text("domain"), rules: rules)
    let bound = BoundDomains(question.texts("bound"), rules: rules)
    return JSON.object { json in
      json.member("covers", name.map { !$0.isLocal && bound.covers($0) } ?? false)
    }
  }

  func offline(_ question: Question) -> [UInt8] {
    var verdict = Verdict(.invalidSignature)
    // The vectors of licenses cover why it is refused.
    if let claims = try? LicenseVerifier(keys: keys(question)).verify(question.text("token")) {
      verdict = Verdict.judge(
        LicenseTerms(claims, rules: rules),
        domain: DomainName(question.text("domain"), rules: rules),
        now: question.integer("now") ?? 0, isOverLimit: false)
    }
    return JSON.object { json in
      json.member("code", verdict.code.rawValue)
      json.member("valid", verdict.isValid)
    }
  }

  /// The runner's sets are good ones. An empty set shows as a failure.
  private func keys(_ question: Question) -> JSONWebKeySet {
    (try? JSONWebKeySet(json: question.text("keys").utf8)) ?? JSONWebKeySet()
  }
}
