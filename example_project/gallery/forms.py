"""What the visitor may send."""

from django import forms

from example_project.gallery.models import Count, Postcard, Upload


class UploadForm(forms.ModelForm):
    """A picture that Pillow can read."""

    class Meta:
        model = Upload
        fields = ("picture",)


class PostcardForm(forms.ModelForm):
    """To whom the postcard goes, and the words on it."""

    class Meta:
        model = Postcard
        fields = ("address", "greeting")


class CountForm(forms.ModelForm):
    """How far to count: 1 to 600."""

    goal = forms.IntegerField(label="Count to", min_value=1, max_value=600, initial=60)

    class Meta:
        model = Count
        fields = ("goal",)
