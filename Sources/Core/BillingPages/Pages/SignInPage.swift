/// The page on which a person signs in with a token.
package enum SignInPage {
  /// - Parameters:
  ///   - next: the path and query to go to afterwards.
  ///   - problem: the reason why the last attempt failed.
  package static func make(next: String, problem: String?, in context: PageContext) -> Page {
    var page = Page("Sign in", place: "")
    if let problem { page.add(Notice(.bad, problem)) }
    var form = Form("Sign in", to: context.basePath + "/sign-in", id: "sign-in", in: context)
    form.hide("next", next)
    form.text(
      "token", "Token", type: "password", isRequired: true,
      hint: "The page keeps a session instead of the token. It ends when you sign out.")
    page.add(form)
    page.add(
      Empty(
        "You need a token with a scope such as usage:read. This command makes one that may read "
          + "everything:",
        command: "meterctl token create --name \"billing team\" --scope usage:read "
          + "--scope billing:read --scope licenses:read --scope webhooks:read"))
    return page
  }
}
