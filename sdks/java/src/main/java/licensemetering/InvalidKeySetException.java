package licensemetering;

/** A key set that is malformed. The message names the key and the member, never a value. */
public final class InvalidKeySetException extends IllegalArgumentException {
    private static final long serialVersionUID = 1;

    InvalidKeySetException(String message) {
        super(message);
    }
}
