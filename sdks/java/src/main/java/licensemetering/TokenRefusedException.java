package licensemetering;

/** A token that is not believed. */
public final class TokenRefusedException extends Exception {
    private static final long serialVersionUID = 1;

    private final String code;
    private final String claim;

    TokenRefusedException(String code) {
        this(code, null);
    }

    TokenRefusedException(String code, String claim) {
        super(claim == null ? code : code + ": " + claim);
        this.code = code;
        this.claim = claim;
    }

    /**
     * The rule: too_large, not_compact, bad_header, unsupported_algorithm, critical, wrong_type, unknown_key,
     * algorithm_mismatch, bad_signature, bad_claims; of a verdict also other_nonce, other_question and stale.
     *
     * @return the rule
     */
    public String code() {
        return code;
    }

    /**
     * The claim of bad_claims.
     *
     * @return null for other rules
     */
    public String claim() {
        return claim;
    }
}
